//! Recoveries: of a file by the real driver, and of an image that crashes while it recovers.
//!
//! *Owns*: opening, collecting what is served, the second crash.
//! *Does not own*: what must be served (judge.rs).
//!
//! Invariants
//! 1. Each recovery runs the log's own code on the very bytes of the crash state.
//!
//! *IO: driver*

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_types::{Env, Lsn};
use tidewater_wal::{DeviceWal, OpenMode, WalError, WalMode};
use tokio::sync::oneshot;

use super::{env::MutantEnv, identity, wal_config};
use crate::check::Violation;
use crate::disk::image::Image;
use crate::disk::{CrashStyle, Device, DiskShape};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::rng::Rng;
use crate::scenario::common::LIMITS;

/// What a recovery served.
pub(super) type Frames = Vec<(Lsn, Vec<u8>)>;

/// Opens the log in the file at `path` by the real driver, and leaves it as a kill would. Mutant 0
/// is none.
pub(super) fn real(path: &Path, mode: WalMode, mutant: u16) -> Result<Frames, WalError> {
    let env: Arc<dyn Env> = Arc::new(MutantEnv::current(mutant));
    let served = Arc::new(Mutex::new(Frames::new()));
    let sink = Arc::clone(&served);
    let (wal, _) = DeviceWal::open(
        path,
        env,
        wal_config(mode),
        identity(),
        OpenMode::Existing,
        move |lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec())),
    )?;
    drop(wal);
    let frames = std::mem::take(&mut *served.lock());
    Ok(frames)
}

/// A recovery of `image` on the simulated disk that is cut off by a power failure, and what came
/// before and after.
pub(super) struct Crashed {
    /// What it served, if it came so far before the power failed.
    pub(super) before: Option<Frames>,
    /// What the next recovery served.
    pub(super) after: Frames,
}

/// Recovers `image`, crashes that at an operation drawn from `rng`, and recovers again.
pub(super) fn crashed(
    image: &Image,
    sector_bytes: usize,
    rng: &mut Rng,
) -> Result<Crashed, Violation> {
    let shape = DiskShape {
        block_bytes: 4096,
        sector_bytes,
        write_ns: 20_000,
        flush_ns: 100_000,
        is_file: false,
    };
    let seed = rng.next_u64();
    let (whole, served) = recovery(image.clone(), shape, seed, None, CrashStyle::None)?;
    if served.is_none() {
        return Err(wrong("a recovery without a crash did not end"));
    }
    let styles = [
        CrashStyle::Sectors,
        CrashStyle::Sectors,
        CrashStyle::Writes,
        CrashStyle::None,
        CrashStyle::All,
    ];
    let style = styles[rng.index(styles.len())];
    let after_ops = rng.between(1, whole.num_ops().max(1));
    let (device, before) = recovery(image.clone(), shape, seed, Some(after_ops), style)?;
    let left = device.durable_image();
    let (_, after) = recovery(left, shape, seed ^ 1, None, CrashStyle::None)?;
    let after = after.ok_or_else(|| wrong("the recovery after a crash in one did not end"))?;
    Ok(Crashed { before, after })
}

fn wrong(what: &str) -> Violation {
    Violation::new("open", what)
}

/// One recovery; what it served if it came to its end before the crash.
fn recovery(
    image: Image,
    shape: DiskShape,
    seed: u64,
    crash_after: Option<u64>,
    style: CrashStyle,
) -> Result<(Device, Option<Frames>), Violation> {
    let executor = Executor::new(seed);
    let handle = executor.handle();
    let device = Device::with_image(handle.clone(), seed, shape, image);
    let disk = device.open().expect("a new device is free");
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(handle.clone(), seed, Tag(1), 0));
    let (sender, done) = oneshot::channel();
    let opening = async move {
        let served = Arc::new(Mutex::new(Frames::new()));
        let sink = Arc::clone(&served);
        let opened = DeviceWal::open_on(
            Box::new(disk),
            env,
            wal_config(WalMode::RingSync),
            identity(),
            OpenMode::Existing,
            move |lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec())),
        )
        .await;
        let served = std::mem::take(&mut *served.lock());
        // The handle goes with the answer: what the log does next may be cut off too.
        _ = sender.send(opened.map(|(wal, _)| (wal, served)));
    };
    handle.spawn(Tag(1), "recovery", Box::pin(opening));
    let cut = device.clone();
    let outcome = executor.run(LIMITS, async move {
        let ended = match crash_after {
            None => done.await.ok(),
            Some(num_ops) => match select(cut.after_ops(num_ops), done).await {
                Either::Left(_) => None,
                Either::Right((ended, _)) => ended.ok(),
            },
        };
        handle.kill(Tag(1));
        cut.power_loss(style);
        ended
    });
    let stopped = |stop: crate::exec::Stop| Violation::new("panic", stop.to_string());
    match outcome.map_err(stopped)? {
        None => Ok((device, None)),
        Some(Ok((_wal, served))) => Ok((device, Some(served))),
        Some(Err(error)) => Err(refused(&error)),
    }
}

/// A crash is no reason to refuse.
pub(super) fn refused(error: &WalError) -> Violation {
    Violation::new("open", format!("refused without damage: {error}"))
}
