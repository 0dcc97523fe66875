//! What a device can do: `tidewater wal calibrate`.
//!
//! *Owns*: what is measured for a target, the table and the JSON.
//! *Does not own*: the measurement and the choice (the WAL's own).
//!
//! Invariants
//! 1. Nothing on a block device is lost unless that was asked for.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

use std::path::Path;

use crate::exit::{Code, Exit};
use crate::printer::Printer;

#[cfg(target_os = "linux")]
pub(super) use linux::print;

/// Says that it is not possible here.
#[cfg(not(target_os = "linux"))]
pub(super) fn print(path: &Path, _: bool, _: bool, _: &mut Printer) -> Result<(), Exit> {
    Err(Exit::new(
        Code::Environment,
        "cannot measure",
        path.display(),
        "Linux",
        "another system",
    ))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Write;
    use std::os::unix::fs::FileTypeExt;
    use std::time::Duration;

    use tidewater_stream_store::{Calibration, calibrate, calibrate_device};

    use super::{Code, Exit, Path, Printer};

    /// Enough for some hundred writes of each kind on a device that takes a millisecond.
    const BUDGET: Duration = Duration::from_secs(3);

    /// Measures the device of the folder or file at `target`, or the block device that it is.
    pub(in super::super) fn print(
        target: &Path,
        json: bool,
        destroy: bool,
        out: &mut Printer,
    ) -> Result<(), Exit> {
        let kind = target.metadata().map(|metadata| metadata.file_type()).ok();
        let is_device = kind.is_some_and(|kind| kind.is_block_device());
        if is_device && !destroy {
            return Err(Exit::new(
                Code::Usage,
                "bad usage",
                target.display(),
                "--destroy, as what lies on the first 16 MiB is lost",
                "a block device without it",
            ));
        }
        let measured = if is_device {
            calibrate_device(target, BUDGET)
        } else if kind.is_some_and(|kind| kind.is_dir()) {
            calibrate(target, BUDGET)
        } else {
            let folder = target.parent().filter(|it| !it.as_os_str().is_empty());
            calibrate(folder.unwrap_or(Path::new(".")), BUDGET)
        };
        let found = measured.map_err(|error| Exit::because(Code::Environment, error))?;
        let text = if json {
            as_json(target, is_device, &found)
        } else {
            as_text(target, &found)
        };
        let _ = out.put(text);
        Ok(())
    }

    fn as_json(target: &Path, is_device: bool, found: &Calibration) -> String {
        let mut value = serde_json::to_value(found).expect("numbers, texts and truths");
        value["path"] = target.display().to_string().into();
        value["block_device"] = is_device.into();
        format!("{value}\n")
    }

    fn as_text(target: &Path, found: &Calibration) -> String {
        let fact = |fact, yes, no| match fact {
            Some(true) => yes,
            Some(false) => no,
            None => "unknown",
        };
        let cache = fact(
            found.volatile_cache,
            "volatile: a power failure takes what was not flushed",
            "not volatile: what is written is durable",
        );
        let fua = fact(found.fua, "taken by the device", "a write and a flush");
        let mut text = format!(
            "target    {}\nkernel    {}\ncache     {cache}\ndsync     {fua}\n\n",
            target.display(),
            found.kernel
        );
        text.push_str("mode          bytes depth processors   writes/s     p50 µs     p99 µs\n");
        for it in &found.samples {
            let processors = if it.contended { "busy" } else { "idle" };
            let _ = writeln!(
                text,
                "{:<11} {:>7} {:>5} {processors:<10} {:>10.0} {:>10.0} {:>10.0}",
                it.mode.name(),
                it.write_bytes,
                it.depth,
                it.writes_per_s,
                it.p50_us,
                it.p99_us
            );
        }
        let depth = found.depth;
        let _ = writeln!(
            text,
            "\nchosen    {}, depth {depth}: {}",
            found.mode, found.reason
        );
        text
    }
}
