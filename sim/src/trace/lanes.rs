//! The swim lanes: a column for each life, disk and bucket, a row for each moment.
//!
//! *Owns*: the text. *Does not own*: what it tells (story.rs).
//!
//! Invariants
//! 1. It is bounded: so many rows around the failure, columns of one width, only those that
//!    something happens in.
//!
//! *IO: none*

use super::story::Story;

/// Rows above the failure and below it.
const ROWS_BEFORE: usize = 40;
const ROWS_AFTER: usize = 6;
const WIDTH_MAX: usize = 150;
const TIME_WIDTH: usize = 14;

/// The lanes around the failure, or around the end of a run that has none.
pub(crate) fn lanes(story: &Story) -> String {
    let middle = story.failure();
    let end = (middle + 1 + ROWS_AFTER).min(story.rows.len());
    let rows = &story.rows[middle.saturating_sub(ROWS_BEFORE)..end];
    let mut shown: Vec<usize> = rows.iter().map(|row| row.lane).collect();
    shown.sort_unstable();
    shown.dedup();
    if shown.is_empty() {
        return String::new();
    }
    let width = (WIDTH_MAX - TIME_WIDTH) / shown.len();
    let mut out = String::new();
    let names: Vec<String> = shown
        .iter()
        .map(|lane| story.lanes[*lane].clone())
        .collect();
    push_line(&mut out, "virtual time", &names, width);
    let rules = vec!["-".repeat(width - 2); shown.len()];
    push_line(&mut out, &"-".repeat(TIME_WIDTH - 2), &rules, width);
    let mut last = None;
    for row in rows {
        // Rows of one moment tell it once.
        let time = if last == Some(row.at_ns) {
            String::new()
        } else {
            format!("{:.3}us", row.at_ns as f64 / 1e3)
        };
        last = Some(row.at_ns);
        let mark = if row.failed { "!! " } else { "" };
        let cells: Vec<String> = shown
            .iter()
            .map(|lane| {
                if *lane == row.lane {
                    format!("{mark}{}", row.text)
                } else {
                    String::new()
                }
            })
            .collect();
        push_line(&mut out, &time, &cells, width);
    }
    out
}

/// One row; a cell that is too long is cut, but for the last one of a failure.
fn push_line(out: &mut String, time: &str, cells: &[String], width: usize) {
    let mut line = format!("{time:>12}  ");
    for cell in cells {
        let fits = cell.chars().count() < width;
        let cell: String = if fits || cell.starts_with("!!") {
            cell.clone()
        } else {
            cell.chars().take(width - 2).chain(['~']).collect()
        };
        line.push_str(&format!("{cell:<width$}"));
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{ROWS_AFTER, ROWS_BEFORE, lanes};
    use crate::trace::{Line, story};

    #[test]
    fn each_lane_has_its_column_and_the_view_ends() {
        let mut lines: Vec<Line> = (0..500)
            .map(|number| Line {
                event: number,
                at_ns: number * 1000,
                life: 1,
                text: if number % 2 == 0 {
                    format!("disk  submit write at={number} id=3")
                } else {
                    format!("store ack value={number} {}", "long ".repeat(40))
                },
            })
            .collect();
        lines[400].text = "FAIL  log: lost".to_owned();
        let text = lanes(&story::read(&lines));
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2 + ROWS_BEFORE + 1 + ROWS_AFTER);
        assert!(
            rows[0].contains("disk") && rows[0].contains("life 1"),
            "{text}"
        );
        let failed = rows.iter().find(|row| row.contains("!! FAIL")).unwrap();
        assert!(failed.trim_start().starts_with("400.000us"), "{text}");
        let column = rows[0].find("life 1").unwrap();
        assert_eq!(failed.find("!!"), Some(column));
        assert!(rows.iter().all(|row| row.chars().count() <= 150), "{text}");
    }

    #[test]
    fn nothing_told_is_nothing_shown() {
        assert_eq!(lanes(&story::read(&[])), "");
    }
}
