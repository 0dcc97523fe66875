//! Frames, one by one: `tidewater wal dump`.
//!
//! *Owns*: which frames are printed, how much of each, in which form.
//! *Does not own*: what is in a frame, beyond the head that the store put there.
//!
//! Invariants
//! 1. Output is bounded unless asked otherwise, and what was left out is said.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

use std::fmt::Write;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use tidewater_stream_store::FrameHead;
use tidewater_stream_store::wal_inspect::{Found, Inspection};
use tidewater_types::Lsn;

use super::look::look;
use crate::exit::{Code, Exit};
use crate::printer::Printer;

const ROW_BYTES: usize = 16;

/// Which frames, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dump {
    /// LSNs of frames that are printed.
    pub(crate) lsns: Range<u64>,
    /// Frames printed at most.
    pub(crate) frames_max: u64,
    /// Bytes shown of each frame.
    pub(crate) bytes_max: usize,
    /// Whether the store's head in front of each frame is shown.
    pub(crate) decode: bool,
    pub(crate) form: Form,
}

/// How frames are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line a frame.
    Line,
    /// Sixteen bytes a line.
    Hex,
    /// A JSON object a line.
    Json,
    /// The bytes alone.
    Raw,
}

/// Prints frames as they are found, and ends the walk behind the last one wanted.
pub(super) fn print(
    path: &Path,
    dump: &Dump,
    out: &mut Printer,
    note: &mut dyn FnMut(&str),
) -> Result<Inspection, Exit> {
    if dump.form == Form::Raw && out.is_terminal() {
        return Err(Exit::new(
            Code::Usage,
            "bad usage",
            "flag --raw",
            "an output that is a file or a pipe",
            "a terminal",
        ));
    }
    let mut printed = 0;
    let mut left_out = false;
    let inspection = look(path, &mut |found| {
        let Found::Frame { lsn, bytes } = found else {
            return ControlFlow::Continue(());
        };
        if lsn.0 >= dump.lsns.end {
            return ControlFlow::Break(());
        }
        if lsn.0 < dump.lsns.start {
            return ControlFlow::Continue(());
        }
        if printed == dump.frames_max {
            left_out = true;
            return ControlFlow::Break(());
        }
        printed += 1;
        match dump.form {
            Form::Raw => out.put(&bytes),
            _ => out.put(dump.text(lsn, &bytes)),
        }
    })?;
    if left_out {
        note(&format!(
            "stopped after {printed} frames, as --limit says; --limit 0 prints all"
        ));
    }
    Ok(inspection)
}

impl Dump {
    fn text(&self, lsn: Lsn, frame: &Bytes) -> String {
        let shown = &frame[..frame.len().min(self.bytes_max)];
        let head = self.decode.then(|| FrameHead::of(frame));
        match self.form {
            Form::Json => {
                let mut value = json!({
                    "lsn": lsn.0, "num_bytes": frame.len(), "hex": hex(shown),
                    "truncated": shown.len() < frame.len(),
                });
                if let Some(head) = head {
                    value["head"] = head.map_or(serde_json::Value::Null, |head| decoded(&head));
                }
                format!("{value}\n")
            }
            Form::Hex => {
                let mut text = format!("lsn {lsn}, {} bytes{}\n", frame.len(), in_words(head));
                for (row, bytes) in shown.chunks(ROW_BYTES).enumerate() {
                    let at = row * ROW_BYTES;
                    let _ = writeln!(text, "  {at:06x}  {:<32}  {}", hex(bytes), printable(bytes));
                }
                let rest = frame.len() - shown.len();
                if rest > 0 {
                    let _ = writeln!(text, "  … {rest} more bytes");
                }
                text
            }
            Form::Line | Form::Raw => {
                let more = if shown.len() < frame.len() { "…" } else { "" };
                format!(
                    "{lsn:>20} {:>9}  {}{more}  {}{}\n",
                    frame.len(),
                    hex(shown),
                    printable(shown),
                    in_words(head)
                )
            }
        }
    }
}

fn in_words(head: Option<Option<FrameHead>>) -> String {
    match head {
        None => String::new(),
        Some(None) => "  not a frame of the store".to_owned(),
        Some(Some(head)) => {
            let from = head.base_offset.0;
            format!(
                "  stream {} epoch {}, offsets {from} to {}",
                head.stream,
                head.stream_epoch,
                from.saturating_add(head.record_count.into())
            )
        }
    }
}

fn decoded(head: &FrameHead) -> serde_json::Value {
    json!({
        "stream": head.stream.0, "stream_epoch": head.stream_epoch.0,
        "base_offset": head.base_offset.0, "record_count": head.record_count,
        "timestamp_ms_max": head.timestamp_ms_max,
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes that are printable as they are, a dot for the others.
fn printable(bytes: &[u8]) -> String {
    let shown = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte),
        _ => '.',
    };
    bytes.iter().map(shown).collect()
}
