//! What happened, in columns and stages: the lines of a told run, read.
//!
//! *Owns*: which column a line belongs to, and which stage of which records it tells.
//! *Does not own*: how that is shown (lanes.rs, timeline.rs).
//!
//! A line's first word names the part that speaks; `disk`, `bucket` and `net` have columns of
//! their own, everything else stands in the column of the life whose task ran. Records are known
//! by their value: `value=7` and `values=7,8` name them, `stream=1 … up_to=30` names those of a
//! stream below an offset, `up_to=900` alone those below an LSN.
//!
//! Invariants
//! 1. A record reaches a stage that is told by a mark once, at the first line that shows it.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Line;

/// Where a record stands; in the order of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Produced,
    Wal,
    Acked,
    Uploaded,
    Committed,
    Trimmed,
    Read,
}

/// One line in its column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) at_ns: u64,
    /// Place of its column.
    pub(crate) lane: usize,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<Stage>,
    /// The records it tells of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<u64>,
    /// Whether a checker spoke here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
}

/// A told run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Story {
    /// Names of the columns.
    pub(crate) lanes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Records in the order they were first told of.
    pub(crate) records: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Record {
    stream: Option<u64>,
    /// End offset in its stream.
    end: Option<u64>,
    lsn: Option<u64>,
}

#[derive(Default)]
struct Reader {
    known: BTreeMap<u64, Record>,
    /// Records and the stages that marks have brought them to.
    reached: BTreeSet<(u64, Stage)>,
    lanes: Vec<String>,
    records: Vec<u64>,
}

/// Reads the lines of a run. Polls are left out: there are too many, and they tell little.
pub(crate) fn read(lines: &[Line]) -> Story {
    let mut reader = Reader::default();
    let rows = lines.iter().filter_map(|line| reader.row(line)).collect();
    Story {
        lanes: reader.lanes,
        rows,
        records: reader.records,
    }
}

impl Story {
    /// The place of the first failure, or of the last row.
    pub(crate) fn failure(&self) -> usize {
        let failed = self.rows.iter().position(|row| row.failed);
        failed.unwrap_or(self.rows.len().saturating_sub(1))
    }
}

impl Reader {
    fn row(&mut self, line: &Line) -> Option<Row> {
        let words: Vec<&str> = line.text.split_whitespace().collect();
        let part = *words.first()?;
        if matches!(part, "poll" | "event") {
            return None;
        }
        let name = match part {
            "disk" | "bucket" | "net" => part.to_owned(),
            _ if line.life == 0 => "world".to_owned(),
            _ => format!("life {}", line.life),
        };
        let stage = stage_of(part, &words);
        let mut values = named_values(&words);
        self.learn(&words, &values);
        if let Some(stage) = stage
            && let Some(mark) = number(&words, "up_to")
        {
            values = self.below(stage, number(&words, "stream"), mark);
            if values.is_empty() {
                return None;
            }
        }
        for value in &values {
            if !self.records.contains(value) {
                self.records.push(*value);
            }
        }
        let stage = stage.filter(|_| !values.is_empty());
        Some(Row {
            at_ns: line.at_ns,
            lane: self.lane(name),
            text: words.join(" "),
            stage,
            values,
            failed: part == "FAIL",
        })
    }

    fn lane(&mut self, name: String) -> usize {
        if let Some(place) = self.lanes.iter().position(|known| *known == name) {
            return place;
        }
        self.lanes.push(name);
        self.lanes.len() - 1
    }

    fn learn(&mut self, words: &[&str], values: &[u64]) {
        let ([value], true) = (values, words.contains(&"append")) else {
            return;
        };
        let record = Record {
            stream: number(words, "stream"),
            end: number(words, "end"),
            lsn: number(words, "lsn"),
        };
        self.known.insert(*value, record);
    }

    /// The records that a mark brings to `stage`, and that were not there before.
    fn below(&mut self, stage: Stage, stream: Option<u64>, mark: u64) -> Vec<u64> {
        let is_below = |record: &Record| match stream {
            Some(_) => record.stream == stream && record.end.is_some_and(|end| end <= mark),
            None => record.lsn.is_some_and(|lsn| lsn < mark),
        };
        let reached = &mut self.reached;
        self.known
            .iter()
            .filter(|(value, record)| is_below(record) && reached.insert((**value, stage)))
            .map(|(value, _)| *value)
            .collect()
    }
}

fn stage_of(part: &str, words: &[&str]) -> Option<Stage> {
    let has = |word: &str| words.contains(&word);
    match part {
        "disk" if has("write") => Some(Stage::Wal),
        "bucket" if has("applied") && has("create") => {
            let in_wal = words.iter().any(|word| word.starts_with("wal/"));
            Some(if in_wal { Stage::Wal } else { Stage::Uploaded })
        }
        "disk" | "bucket" => None,
        _ if has("append") || has("produce") => Some(Stage::Produced),
        _ if has("ack") => Some(Stage::Acked),
        _ if has("committed") => Some(Stage::Committed),
        _ if has("trim") || has("wal-trimmed") => Some(Stage::Trimmed),
        _ if has("read") => Some(Stage::Read),
        _ => None,
    }
}

fn word<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &[&str], key: &str) -> Option<u64> {
    word(words, key)?.parse().ok()
}

fn named_values(words: &[&str]) -> Vec<u64> {
    let listed = word(words, "value").or_else(|| word(words, "values"));
    listed
        .unwrap_or_default()
        .split(',')
        .filter_map(|value| value.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Stage, read};
    use crate::trace::Line;

    fn line(at_ns: u64, life: u32, text: &str) -> Line {
        let text = text.to_owned();
        Line {
            event: at_ns,
            at_ns,
            life,
            text,
        }
    }

    #[test]
    fn a_record_is_followed_from_its_append_to_its_reader() {
        let lines = [
            line(1, 2, "poll  node=2 writer"),
            line(2, 2, "store append stream=1 value=7 base=0 end=2 lsn=100"),
            line(2, 2, "store append stream=2 value=8 base=0 end=9 lsn=140"),
            line(3, 2, "disk  submit write at=4096 id=1 values=7,8"),
            line(4, 2, "store ack stream=1 value=7"),
            line(5, 0, "bucket applied create data/00/5 values=7"),
            line(6, 2, "store committed stream=1 up_to=2"),
            line(7, 2, "store committed stream=1 up_to=2"),
            line(8, 2, "store wal-trimmed up_to=140"),
            line(9, 3, "store read stream=1 values=7"),
            line(9, 0, "FAIL  log: something"),
        ];
        let story = read(&lines);
        let seven: Vec<_> = story
            .rows
            .iter()
            .filter(|row| row.values.contains(&7))
            .map(|row| row.stage.unwrap())
            .collect();
        let way = [
            Stage::Produced,
            Stage::Wal,
            Stage::Acked,
            Stage::Uploaded,
            Stage::Committed,
            Stage::Trimmed,
            Stage::Read,
        ];
        assert_eq!(seven, way);
        assert_eq!(story.records, [7, 8]);
        assert_eq!(story.lanes, ["life 2", "disk", "bucket", "life 3", "world"]);
        assert_eq!(story.failure(), story.rows.len() - 1);
    }

    #[test]
    fn an_object_of_the_wal_is_no_upload() {
        let lines = [line(1, 1, "bucket applied create wal/1/2/3 values=4")];
        assert_eq!(read(&lines).rows[0].stage, Some(Stage::Wal));
    }
}
