//! The report of a check as scripts and as people read it.
//!
//! *Owns*: the names in the JSON (docs/operations.md), the text, the exit code.
//! *Does not own*: what was found.
//!
//! *IO: none*

use std::fmt::Write;

use serde_json::{Value, json};
use tidewater_stream_store::FsckReport;

use crate::exit::{Code, Exit};

/// Findings printed as text; the JSON has all.
const SHOWN_MAX: usize = 200;

/// The report as one JSON object; `repaired` are the keys that were deleted, if that was asked for.
pub(crate) fn as_json(report: &FsckReport, repaired: Option<&[String]>) -> Value {
    let finding = |finding: &tidewater_stream_store::FsckFinding| {
        json!({
            "severity": finding.severity.name(),
            "what": finding.what.name(),
            "stream": finding.stream.map(|stream| stream.0),
            "range": finding.range.map(|range| [range.start().0, range.end().0]),
            "object": finding.object,
            "detail": finding.detail,
        })
    };
    let mut value = json!({
        "streams": report.streams,
        "objects": report.objects,
        "bytes_checked": report.bytes_checked,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    if let Some(repaired) = repaired {
        value["repaired"] = json!(repaired);
    }
    value
}

/// The report for people: a line a finding, the worst first, and a summary.
pub(crate) fn as_text(report: &Value) -> String {
    let mut text = String::new();
    let mut findings: Vec<&Value> = findings(report).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(rank(finding)));
    for finding in findings.iter().take(SHOWN_MAX) {
        let _ = writeln!(text, "{}", line(finding));
    }
    if findings.len() > SHOWN_MAX {
        let rest = findings.len() - SHOWN_MAX;
        let _ = writeln!(text, "… {rest} more; --json has all");
    }
    for key in report["repaired"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "deleted  {}", key.as_str().unwrap_or_default());
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|it| it["severity"] == severity)
            .count()
    };
    let _ = writeln!(
        text,
        "{} streams, {} objects, {} bytes checked: {} errors, {} warnings, {} notes",
        report["streams"],
        report["objects"],
        report["bytes_checked"],
        count("error"),
        count("warning"),
        count("info"),
    );
    text
}

/// The end that the worst finding asks for.
pub(crate) fn end(report: &Value) -> Result<(), Exit> {
    let worst = findings(report).max_by_key(|finding| rank(finding));
    match worst.map(|worst| (rank(worst), worst)) {
        Some((2, worst)) => Err(Exit::because(Code::Damage, line(worst))),
        Some((1, worst)) => Err(Exit::because(Code::Wrong, line(worst))),
        _ => Ok(()),
    }
}

fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    report["findings"].as_array().into_iter().flatten()
}

fn rank(finding: &Value) -> u8 {
    match finding["severity"].as_str() {
        Some("info") => 0,
        Some("warning") => 1,
        // What a newer broker calls otherwise is not taken lightly.
        _ => 2,
    }
}

fn line(finding: &Value) -> String {
    let word = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let mut text = format!("{:<8} {:<8}", word("severity"), word("what"));
    if let Some(object) = finding["object"].as_str() {
        let _ = write!(text, " {object}");
    }
    if let Some(stream) = finding["stream"].as_u64() {
        let _ = write!(text, " stream {stream}");
    }
    if let Some([from, to]) = finding["range"].as_array().map(Vec::as_slice) {
        let _ = write!(text, " [{from}, {to})");
    }
    let _ = write!(text, ": {}", word("detail"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severities: &[&str]) -> Value {
        let finding = |severity: &&str| {
            json!({
                "severity": severity, "what": "hole", "stream": 7, "range": [3, 9],
                "object": "data/x", "detail": "why",
            })
        };
        let findings: Vec<Value> = severities.iter().map(finding).collect();
        json!({"streams": 2, "objects": 3, "bytes_checked": 4, "findings": findings})
    }

    #[test]
    fn the_worst_finding_decides_the_end_and_is_its_reason() {
        let code = |severities: &[&str]| end(&report(severities)).map_err(|exit| exit.code);
        assert_eq!(code(&[]), Ok(()));
        assert_eq!(code(&["info", "info"]), Ok(()));
        assert_eq!(code(&["info", "warning"]), Err(Code::Wrong));
        assert_eq!(code(&["warning", "error", "info"]), Err(Code::Damage));
        assert_eq!(code(&["worse than ever"]), Err(Code::Damage));
        let reason = end(&report(&["error"])).unwrap_err().to_string();
        assert_eq!(
            reason,
            "tidewater: error    hole     data/x stream 7 [3, 9): why"
        );
    }

    #[test]
    fn text_has_the_worst_first_and_is_bounded() {
        let text = as_text(&report(&["info", "error"]));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("error") && lines[1].starts_with("info"),
            "{text}"
        );
        assert_eq!(
            lines[2],
            "2 streams, 3 objects, 4 bytes checked: 1 errors, 0 warnings, 1 notes"
        );
        let text = as_text(&report(&["info"; 500]));
        assert_eq!(text.lines().count(), 202);
        assert!(text.contains("… 300 more"), "{text}");
    }

    #[test]
    fn the_names_in_the_json_are_those_scripts_rely_on() {
        let value = as_json(&FsckReport::default(), Some(&["data/y".to_owned()]));
        let expected = json!({
            "streams": 0, "objects": 0, "bytes_checked": 0, "findings": [], "repaired": ["data/y"],
        });
        assert_eq!(value, expected);
    }
}
