//! Counters as people read them: one a line, name and value.
//!
//! *Owns*: the text form. *Does not own*: the names.
//!
//! *IO: none*

use std::fmt::Write;

use serde_json::Value;

/// One line a counter; the labels of a labelled one stand behind its name in braces, as at a
/// metrics address.
pub(super) fn render(value: &Value) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    collect("", value, &mut lines);
    let width = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<width$}  {value}");
    }
    text
}

fn collect(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => match fields.get("value") {
            Some(count) if !name.is_empty() => {
                let labels = fields.iter().filter(|(label, _)| *label != "value");
                let labels: Vec<String> = labels
                    .map(|(label, text)| format!("{label}={}", plain(text)))
                    .collect();
                lines.push((format!("{name}{{{}}}", labels.join(",")), plain(count)));
            }
            _ => {
                for (field, value) in fields {
                    let dot = if name.is_empty() { "" } else { "." };
                    collect(&format!("{name}{dot}{field}"), value, lines);
                }
            }
        },
        Value::Array(values) => values.iter().for_each(|value| collect(name, value, lines)),
        value => lines.push((name.to_owned(), plain(value))),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::render;
    use serde_json::json;

    #[test]
    fn labels_stand_behind_the_name_and_values_in_one_column() {
        let text = render(&json!({
            "wal_appends": 3,
            "bucket_requests": [{"op": "get", "purpose": "read", "value": 12}],
            "wal": "portable",
            "nested": {"a": null},
        }));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.contains(&"bucket_requests{op=get,purpose=read}  12"),
            "{text}"
        );
        assert!(
            lines.contains(&"wal_appends                           3"),
            "{text}"
        );
        assert!(
            lines.contains(&"wal                                   portable"),
            "{text}"
        );
        assert!(
            lines.contains(&"nested.a                              null"),
            "{text}"
        );
    }
}
