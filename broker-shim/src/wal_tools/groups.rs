//! Groups, one by one: `tidewater wal inspect --groups`.
//!
//! *Owns*: their JSON and their table. *Does not own*: the inspection around them.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

use std::ops::ControlFlow;
use std::path::Path;

use tidewater_stream_store::wal_inspect::{Found, Inspection};

use super::look::{json, look};
use crate::exit::Exit;
use crate::printer::Printer;

/// Prints every group as it is found, in front of the inspection: as a table, or as the first
/// member of the one JSON object.
pub(super) fn print(path: &Path, as_json: bool, out: &mut Printer) -> Result<Inspection, Exit> {
    let mut count = 0_u64;
    let inspection = look(path, &mut |found| {
        let line = match (group(&found), as_json) {
            (None, _) => return ControlFlow::Continue(()),
            (Some(group), true) => {
                let before = if count == 0 { "{\"groups\":[\n" } else { ",\n" };
                format!("{before}{group}")
            }
            (Some(group), false) => {
                let before = if count == 0 { HEAD } else { "" };
                format!("{before}{}\n", row(&group))
            }
        };
        count += 1;
        out.put(line)
    })?;
    if as_json {
        let before = if count == 0 { "{\"groups\":[" } else { "" };
        // The inspection is an object: its members follow the groups in the same one.
        let rest = json(&inspection);
        let _ = out.put(format!("{before}],{}\n", &rest[1..]));
    }
    Ok(inspection)
}

const HEAD: &str = "    position      bytes kind                  lsn                  end    epoch   \
                    frames              durable\n";

fn group(found: &Found) -> Option<serde_json::Value> {
    let Found::Group {
        position,
        num_bytes,
        kind,
        lsn,
        end,
        epoch,
        num_frames,
        durable,
        next,
    } = found
    else {
        return None;
    };
    Some(serde_json::json!({
        "position": position, "num_bytes": num_bytes, "kind": kind, "lsn": lsn.0, "end": end.0,
        "epoch": epoch.0, "num_frames": num_frames, "durable": durable.0, "next": next,
    }))
}

fn row(group: &serde_json::Value) -> String {
    let kind = group["kind"].as_str().unwrap_or_default();
    let next = match group["next"].as_u64() {
        Some(next) if kind == "skip" => format!("  → {next}"),
        _ => String::new(),
    };
    format!(
        "{:>12} {:>10} {kind:<4} {:>20} {:>20} {:>8} {:>8} {:>20}{next}",
        group["position"].as_u64().unwrap_or_default(),
        group["num_bytes"].as_u64().unwrap_or_default(),
        group["lsn"].as_u64().unwrap_or_default(),
        group["end"].as_u64().unwrap_or_default(),
        group["epoch"].as_u64().unwrap_or_default(),
        group["num_frames"].as_u64().unwrap_or_default(),
        group["durable"].as_u64().unwrap_or_default(),
    )
}
