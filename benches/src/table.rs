//! Rows for people.
//!
//! *Owns*: columns and number formats on standard output.
//!
//! *IO: standard output*

use serde_json::Value;

use crate::summary::Row;

const TITLES: [&str; 11] = [
    "bench",
    "params",
    "metric",
    "value",
    "unit",
    "limit",
    "ratio",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "cpu ns/op",
];

/// Prints `rows` as a table, with the spread between rounds in the last column.
pub fn print(rows: &[Row]) {
    let mut lines = vec![TITLES.map(str::to_owned).to_vec()];
    lines[0].push("spread".to_owned());
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| {
            let width = |line: &Vec<String>| line[column].chars().count();
            lines.iter().map(width).max().unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let gap = " ".repeat(width - cell.chars().count());
                // Words to the left, numbers to the right.
                if matches!(column, 0..=2 | 4) {
                    format!("{cell}{gap}")
                } else {
                    format!("{gap}{cell}")
                }
            });
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    for what in limits(rows) {
        println!("limit: {what}");
    }
}

fn cells(row: &Row) -> Vec<String> {
    let optional = |value: Option<f64>| value.map_or("–".to_owned(), number);
    let part = |index: usize| optional(row.percentiles_us.map(|all| all[index]));
    vec![
        row.bench.to_owned(),
        params(&row.params),
        row.metric.to_owned(),
        number(row.rounds.median()),
        row.unit.to_owned(),
        optional(row.limit()),
        row.ratio()
            .map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
        part(0),
        part(1),
        part(2),
        optional(row.cpu_ns_per_op),
        format!("{:.0} %", row.rounds.spread() * 100.0),
    ]
}

/// The different things that were limits, without their numbers' details.
fn limits(rows: &[Row]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for (what, _) in rows.iter().filter_map(|row| row.limit.as_ref()) {
        let short = what.split(':').next().unwrap_or(what);
        if !all.contains(&short) {
            all.push(short);
        }
    }
    all
}

fn params(params: &Value) -> String {
    let Some(params) = params.as_object() else {
        return params.to_string();
    };
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) => text.clone(),
        other => format!("{name}={other}"),
    };
    params.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) && !grouped.ends_with('-')
                {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        size if size >= 10.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{number, params};
    use serde_json::json;

    #[test]
    fn numbers_are_grouped_and_small_ones_keep_their_fraction() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(-123_456.0), "-123,456");
        assert_eq!(number(999.4), "999");
        assert_eq!(number(0.256), "0.26");
    }

    #[test]
    fn words_stand_for_themselves_and_numbers_carry_their_name() {
        assert_eq!(
            params(&json!({"wal": "device", "size": 1024})),
            "size=1024 device"
        );
    }
}
