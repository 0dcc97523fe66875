//! An inspection as people read it.
//!
//! *Owns*: the text form. *Does not own*: the names in the JSON (`views.rs`).
//!
//! *IO: none*

use std::fmt::{self, Display, Formatter};

use super::views::{SegmentState, SegmentView, Segments, SuperblockView, Verdict, WalkView};
use super::{Inspection, names};
use crate::error::WalError;

/// Segments that the short form names one by one.
const NAMED_MAX: usize = 12;

impl Display for Inspection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        if self.in_use {
            line(
                f,
                "in use",
                "by a running process: what is shown may have changed since",
            )?;
        }
        let kind = if self.block_device {
            "block device"
        } else {
            "file"
        };
        line(f, "size", &format!("{} {kind}", size(self.num_bytes)))?;
        if let Some(superblock) = &self.superblock {
            fmt_superblock(f, superblock)?;
        }
        self.fmt_slots(f)?;
        if let Some(superblock) = &self.superblock {
            fmt_epochs(f, superblock)?;
        }
        if let Some(segments) = &self.segments {
            fmt_segments(f, segments)?;
        }
        if let Some(walk) = &self.walk {
            fmt_walk(f, walk)?;
        }
        if let Some(marks) = &self.watermarks {
            let text = format!(
                "trimmed {} · durable {} (proven) · end {}",
                marks.trimmed, marks.durable, marks.end
            );
            line(f, "lsn", &text)?;
        }
        if let Some(walk) = &self.walk {
            let text = format!(
                "at position {} in segment {}, lsn {}: {}",
                walk.stop_position, walk.stop_segment, walk.stop_lsn, walk.stop_reason
            );
            line(f, "stop", &text)?;
        }
        line(f, "verdict", &words(self))
    }
}

impl Inspection {
    /// The verdict in one line, with the path: what, where, expected, found.
    #[must_use]
    pub fn summary(&self) -> String {
        match self
            .error
            .as_ref()
            .map(|error| (names::of_error(error), error))
        {
            Some(("empty", _)) => format!(
                "{} holds no write-ahead log: expected superblocks, found a file of no bytes",
                self.path
            ),
            Some(("not_a_wal", WalError::SuperblocksDamaged { first, second, .. })) => format!(
                "{} holds no write-ahead log: expected a superblock at 0 and 32768, found {first}; \
                 {second}",
                self.path
            ),
            Some((_, error)) if !self.is_unsettled() => error.to_string(),
            _ => format!("{}: {}", self.path, words(self)),
        }
    }

    fn fmt_slots(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, slot) in self.slots.iter().enumerate() {
            let text = match (slot.flaw, slot.sequence, slot.trim_lsn) {
                (Some(flaw), ..) => format!("DAMAGED: {flaw}"),
                (None, Some(sequence), Some(trim)) => {
                    let speaks = if slot.speaks { ", speaks" } else { "" };
                    format!("valid, sequence {sequence}, trim lsn {trim}{speaks}")
                }
                _ => "valid".to_owned(),
            };
            line(f, &format!("slot {number}"), &text)?;
        }
        Ok(())
    }
}

/// The verdict in words.
fn words(inspection: &Inspection) -> String {
    match inspection.verdict {
        Verdict::Clean => "fine: closed cleanly".to_owned(),
        Verdict::Open => "fine: not closed; nothing was begun behind the end".to_owned(),
        Verdict::TornTail => "fine: not closed, with a torn tail: what was begun behind the end \
                              was never acknowledged"
            .to_owned(),
        Verdict::SlotDamaged => {
            let slot = inspection.damaged_slot().unwrap_or_default();
            let flaw = inspection.slots[slot].flaw.unwrap_or_default();
            format!(
                "superblock slot {slot} at position {} is damaged: expected a superblock, found \
                 {flaw}; opening goes on with the other slot and repairs this one",
                inspection.slots[slot].position
            )
        }
        Verdict::Refused => format!("a broker REFUSES it: {}", inspection.summary()),
        Verdict::Unsettled => "no verdict: expected a log at rest, found another fault at each \
                               look; look again"
            .to_owned(),
        Verdict::Partial => "no verdict: the end was not looked at".to_owned(),
    }
}

fn fmt_superblock(f: &mut Formatter<'_>, superblock: &SuperblockView) -> fmt::Result {
    let text = format!(
        "{}, node {} of cluster {}",
        superblock.wal, superblock.node, superblock.cluster
    );
    line(f, "wal", &text)?;
    let text = format!(
        "up to {} segments of {}, blocks of {}, window {}",
        superblock.segment_count,
        size(superblock.segment_bytes),
        size(superblock.block_bytes.into()),
        size(superblock.window_bytes)
    );
    line(f, "ring", &text)
}

fn fmt_epochs(f: &mut Formatter<'_>, superblock: &SuperblockView) -> fmt::Result {
    let trim = &superblock.trim;
    let text = format!(
        "lsn {} at position {}, in a group of epoch {} that begins at lsn {}",
        trim.lsn, trim.position, trim.epoch, trim.group_lsn
    );
    line(f, "trim", &text)?;
    let text = match superblock.epochs.last() {
        None => "none: made and never opened".to_owned(),
        Some(last) => format!(
            "{} recorded, the last is {} from lsn {} at position {}",
            superblock.epochs.len(),
            last.epoch,
            last.lsn,
            last.position
        ),
    };
    line(f, "epochs", &text)?;
    match &superblock.seal {
        None => Ok(()),
        Some(seal) => {
            let text = format!("at lsn {}, position {}", seal.lsn, seal.position);
            line(f, "sealed", &text)
        }
    }
}

fn fmt_segments(f: &mut Formatter<'_>, segments: &Segments) -> fmt::Result {
    let counts = [
        (segments.next, "next"),
        (segments.free, "free"),
        (segments.blank, "blank"),
        (segments.unknown, "unknown"),
        (segments.not_read, "not read"),
    ];
    let mut text = format!(
        "{} exist: {} in the chain",
        segments.existing, segments.chain
    );
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    line(f, "segments", &text)?;
    if f.alternate() {
        return segments
            .list
            .iter()
            .try_for_each(|segment| fmt_segment(f, segment));
    }
    let in_chain = |segment: &&SegmentView| segment.state == SegmentState::Chain;
    let chain = segments.list.iter().filter(in_chain);
    let chain: Vec<String> = chain.map(|segment| segment.segment.to_string()).collect();
    let text = match chain.len() {
        ..=NAMED_MAX => chain.join(" → "),
        _ => format!("{} → … → {}", chain[0], chain[chain.len() - 1]),
    };
    line(f, "chain", &text)
}

fn fmt_segment(f: &mut Formatter<'_>, segment: &SegmentView) -> fmt::Result {
    let state = match segment.state {
        SegmentState::Chain => "chain",
        SegmentState::Next => "next",
        SegmentState::Free => "free",
        SegmentState::Blank => "blank",
        SegmentState::Unknown => "unknown",
        SegmentState::NotRead => "not read",
    };
    let mut text = format!("position {:<12} {state}", segment.position);
    match (segment.lsn, segment.end, segment.epoch) {
        (Some(lsn), Some(end), Some(epoch)) => text.push_str(&format!(
            ": lsn {lsn} to {end}, epoch {epoch}, {} groups, {} frames, {}",
            segment.groups,
            segment.frames,
            size(segment.group_bytes)
        )),
        (Some(lsn), _, Some(epoch)) => {
            text.push_str(&format!(": of an earlier lap, lsn {lsn}, epoch {epoch}"));
        }
        _ => {}
    }
    line(f, &format!("  {}", segment.segment), &text)
}

fn fmt_walk(f: &mut Formatter<'_>, walk: &WalkView) -> fmt::Result {
    let text = format!(
        "{} data, {} marks, {} skips, {} on the device",
        walk.data_groups,
        walk.marks,
        walk.skips,
        size(walk.group_bytes)
    );
    line(f, "groups", &text)?;
    let text = format!("{}, {}", walk.frames, size(walk.frame_bytes));
    line(f, "frames", &text)
}

fn line(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<9} {text}")
}

/// Bytes in the largest unit that keeps the number readable.
fn size(num_bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = num_bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value.fract() == 0.0 {
        format!("{value} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}
