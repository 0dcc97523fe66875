//! What happened, in columns and stages: the lines of a told run, read.
//!
//! *Owns*: which column a line belongs to, and which stage of which records it tells.
//! *Does not own*: how that is shown (lanes.rs, timeline.rs).
//!
//! A line's first word names the part that speaks; `disk`, `bucket`, `net` and `client` have columns
//! of their own, everything else stands in the column of the life whose task ran. Records are known
//! by their value: `value=7` and `values=7,8` name them, `stream=1 … up_to=30` names those of a
//! stream below an offset, `up_to=900` alone those below an LSN, of the WAL of node 2 with `of=2`.
//! Where a record is tell the lines that append it to a stream or say that a WAL `takes` it.
//!
//! Invariants
//! 1. A record reaches a stage that is told by a mark once, at the first line that shows it.
//! 2. A mark counts for those alone that can be below it: what is committed was uploaded before, what a
//!    WAL trims was written to it, and was neither lost by a crash nor taken from a replaced owner.
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

/// What has marks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    /// Marks are offsets: records end at or below them.
    Stream(u64),
    /// Marks are LSNs in the WAL of a node: records begin below them.
    Wal(u64),
}

#[derive(Default)]
struct Reader {
    /// Records that wait for a mark to bring them to a stage, by the smallest mark that does.
    waiting: BTreeMap<(Stage, Space), BTreeMap<u64, Vec<u64>>>,
    /// The life that opened each WAL last.
    owners: BTreeMap<u64, u32>,
    /// Records and the stages they have reached.
    reached: BTreeSet<(u64, Stage)>,
    lanes: Vec<String>,
    records: Vec<u64>,
    known: BTreeSet<u64>,
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
            "disk" | "bucket" | "net" | "client" => part.to_owned(),
            _ if line.life == 0 => "world".to_owned(),
            _ => format!("life {}", line.life),
        };
        let stage = stage_of(part, &words);
        let mut values = named_values(&words);
        self.learn(&words, line.life, &values);
        if let Some(stage) = stage
            && let Some(mark) = number(&words, "up_to")
        {
            values = self.below(stage, space_of(&words), mark);
            if values.is_empty() {
                return None;
            }
        }
        for value in &values {
            if self.known.insert(*value) {
                self.records.push(*value);
            }
            self.reached.extend(stage.map(|stage| (*value, stage)));
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

    /// Where records are, as a line of `life` tells.
    fn learn(&mut self, words: &[&str], life: u32, values: &[u64]) {
        let has = |word: &str| words.contains(&word);
        let wal = number(words, "of").unwrap_or(0);
        if has("recovered") || has("served") {
            self.owners.insert(wal, life);
            self.only_these_are_in(wal, values);
        }
        if !(has("append") || has("takes")) {
            return;
        }
        if let Some(stream) = number(words, "stream")
            && let Some(end) = number(words, "end")
        {
            for stage in [Stage::Committed, Stage::Trimmed] {
                self.wait(stage, Space::Stream(stream), end, values);
            }
        }
        // What a replaced owner takes is lost.
        let is_owner = self.owners.get(&wal).is_none_or(|owner| *owner == life);
        if let Some(lsn) = number(words, "lsn").filter(|_| is_owner) {
            self.wait(Stage::Trimmed, Space::Wal(wal), lsn + 1, values);
        }
    }

    fn wait(&mut self, stage: Stage, space: Space, mark: u64, values: &[u64]) {
        let waiting = self.waiting.entry((stage, space)).or_default();
        waiting.entry(mark).or_default().extend(values);
    }

    /// A recovery served `values`; whatever else waits for a trim of this WAL is lost.
    fn only_these_are_in(&mut self, wal: u64, values: &[u64]) {
        let served: BTreeSet<u64> = values.iter().copied().collect();
        let waiting = self.waiting.entry((Stage::Trimmed, Space::Wal(wal)));
        for waiting in waiting.or_default().values_mut() {
            waiting.retain(|value| served.contains(value));
        }
    }

    /// The records that a mark brings to `stage`, and that were not there before.
    fn below(&mut self, stage: Stage, space: Space, mark: u64) -> Vec<u64> {
        let Some(waiting) = self.waiting.get_mut(&(stage, space)) else {
            return Vec::new();
        };
        let above = waiting.split_off(&(mark + 1));
        let below = std::mem::replace(waiting, above).into_values().flatten();
        let before = match (stage, space) {
            (Stage::Committed, _) => Some(Stage::Uploaded),
            (_, Space::Wal(_)) => Some(Stage::Wal),
            _ => None,
        };
        let reached = &self.reached;
        let is_there = |value: u64, stage| reached.contains(&(value, stage));
        let mut values: Vec<u64> = below
            .filter(|value| before.is_none_or(|before| is_there(*value, before)))
            .filter(|value| !is_there(*value, stage))
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// What the mark in a line is a mark of.
fn space_of(words: &[&str]) -> Space {
    match number(words, "stream") {
        Some(stream) => Space::Stream(stream),
        None => Space::Wal(number(words, "of").unwrap_or(0)),
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
        _ if has("trim") => Some(Stage::Trimmed),
        _ if has("read") || has("served") => Some(Stage::Read),
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
            line(1, 2, "wal   of=1 recovered values="),
            line(2, 2, "store append stream=1 value=7 base=0 end=2"),
            line(
                2,
                2,
                "wal   of=1 takes stream=1 base=0 end=2 values=7 lsn=100",
            ),
            line(
                2,
                2,
                "wal   of=1 takes stream=2 base=0 end=9 values=8 lsn=140",
            ),
            line(3, 2, "disk  submit write at=4096 id=1 values=7,8"),
            line(4, 2, "store ack stream=1 value=7"),
            line(5, 0, "bucket applied create data/00/5 values=7"),
            line(6, 2, "meta  committed stream=1 up_to=2"),
            line(7, 2, "meta  committed stream=1 up_to=2"),
            line(8, 2, "wal   of=2 trim up_to=900"),
            line(8, 2, "wal   of=1 trim up_to=140"),
            line(9, 3, "store read stream=1 values=7"),
            line(9, 0, "FAIL  log: something"),
        ];
        let story = read(&lines);
        let seven: Vec<_> = story
            .rows
            .iter()
            .filter(|row| row.values.contains(&7))
            .filter_map(|row| row.stage)
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

    /// The stages that the lines show for `value`.
    fn stages(lines: &[Line], value: u64) -> Vec<Stage> {
        let story = read(lines);
        let rows = story.rows.iter();
        let rows = rows.filter(|row| row.values.contains(&value));
        rows.filter_map(|row| row.stage).collect()
    }

    #[test]
    fn a_mark_does_not_count_for_what_a_crash_lost() {
        let lines = [
            line(1, 1, "wal   append value=1 lsn=10"),
            line(1, 1, "wal   append value=2 lsn=20"),
            line(2, 1, "disk  submit write at=0 id=1 values=1,2"),
            line(3, 2, "wal   opened served values=1"),
            line(4, 2, "wal   append value=3 lsn=30"),
            line(5, 2, "wal   trim up_to=31"),
        ];
        let all = [Stage::Produced, Stage::Wal, Stage::Read, Stage::Trimmed];
        assert_eq!(stages(&lines, 1), all);
        assert_eq!(stages(&lines, 2), all[..2]);
        assert_eq!(stages(&lines, 3), all[..1], "it was never written");
    }

    #[test]
    fn a_mark_does_not_count_for_what_a_replaced_owner_took() {
        let lines = [
            line(1, 1, "wal   of=5 recovered values="),
            line(2, 2, "wal   of=5 recovered values="),
            line(
                3,
                1,
                "wal   of=5 takes stream=1 base=0 end=1 values=7 lsn=10",
            ),
            line(
                3,
                2,
                "wal   of=5 takes stream=1 base=0 end=1 values=8 lsn=10",
            ),
            line(4, 2, "bucket applied create wal/5/1 values=7,8"),
            line(4, 2, "bucket applied create data/1 values=8"),
            line(5, 2, "meta  committed stream=1 up_to=1"),
            line(6, 2, "wal   of=5 trim up_to=11"),
        ];
        assert_eq!(stages(&lines, 7), [Stage::Wal]);
        let all = [
            Stage::Wal,
            Stage::Uploaded,
            Stage::Committed,
            Stage::Trimmed,
        ];
        assert_eq!(stages(&lines, 8), all);
    }

    #[test]
    fn an_object_of_the_wal_is_no_upload() {
        let lines = [line(1, 1, "bucket applied create wal/1/2/3 values=4")];
        assert_eq!(read(&lines).rows[0].stage, Some(Stage::Wal));
    }
}
