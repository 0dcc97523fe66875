//! A worked example: a log that is broken on purpose is plugged in, and the simulator finds it.
//!
//! The log is the real one, on a disk that answers a flush before it made anything durable, as
//! a driver with a wrong flag would. The example writes its own small scenario: open, append,
//! lose power, open again, and compare what comes back with what was acknowledged.
//!
//! ```text
//! cargo run -p tidewater-sim --example hasty_disk
//! ```
//!
//! *IO: driver* (prints)

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_sim::{
    CrashStyle, Device, DiskFaults, DiskShape, Executor, Handle, Limits, Rng, SimDisk, SimEnv, Tag,
};
use tidewater_types::{ClusterId, Lsn, NodeId};
use tidewater_wal::{
    Completion, DeviceWal, DeviceWalConfig, Disk, DiskOp, Frame, Identity, OpenMode, Wal, WalMode,
};

/// The bug: a flush is answered at once and never reaches the device.
struct HastyDisk {
    inner: SimDisk,
    answered: VecDeque<Completion>,
    waker: Option<Waker>,
}

impl Disk for HastyDisk {
    fn block_size(&self) -> usize {
        self.inner.block_size()
    }

    fn num_bytes(&self) -> u64 {
        self.inner.num_bytes()
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        if !matches!(op, DiskOp::Flush) {
            return self.inner.submit(id, op);
        }
        self.answered.push_back(Completion {
            id,
            result: Ok(0),
            buf: None,
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn publish(&mut self) -> io::Result<()> {
        self.inner.publish()
    }

    fn sync_name(&mut self) -> io::Result<()> {
        self.inner.sync_name()
    }

    fn poll(&mut self) -> Option<Completion> {
        self.answered.pop_front().or_else(|| self.inner.poll())
    }

    fn set_waker(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
        self.inner.set_waker(waker);
    }

    fn describe(&self) -> String {
        "a disk whose flushes do nothing".to_owned()
    }
}

const IDENTITY: Identity = Identity {
    cluster: ClusterId([7; 16]),
    node: NodeId(1),
    wal: None,
};
const LIMITS: Limits = Limits {
    polls: 1_000_000,
    time: Duration::from_secs(600),
};

type Frames = BTreeMap<Lsn, Vec<u8>>;

/// Opens the log as the life `tag`; the frames it serves.
async fn open(
    handle: &Handle,
    device: &Device,
    seed: u64,
    (tag, hasty, mode): (u32, bool, OpenMode),
) -> Result<(DeviceWal, Frames), String> {
    let disk = device.open().ok_or("another life holds the device")?;
    let disk: Box<dyn Disk> = if hasty {
        Box::new(HastyDisk {
            inner: disk,
            answered: VecDeque::new(),
            waker: None,
        })
    } else {
        Box::new(disk)
    };
    let env = Arc::new(SimEnv::new(handle.clone(), seed, Tag(tag), 0));
    let config = DeviceWalConfig {
        mode: WalMode::RingSync,
        ..DeviceWalConfig::tiny()
    };
    let served = Arc::new(Mutex::new(Frames::new()));
    let sink = Arc::clone(&served);
    let on_frame = move |lsn, frame: Bytes| _ = sink.lock().insert(lsn, frame.to_vec());
    let opening = DeviceWal::open_on(disk, env, config, IDENTITY, mode, on_frame);
    let (wal, _) = opening.await.map_err(|why| why.to_string())?;
    let served = std::mem::take(&mut *served.lock());
    Ok((wal, served))
}

/// One seed: what was acknowledged before the power failed and did not come back.
fn lost(seed: u64, hasty: bool) -> Option<String> {
    let executor = Executor::new(seed);
    let handle = executor.handle();
    let shape = DiskShape {
        block_bytes: 4096,
        sector_bytes: 512,
        write_ns: 20_000,
        flush_ns: 80_000,
        is_file: false,
    };
    let device = Device::new(handle.clone(), seed, shape, DiskFaults::default());
    let run = async move {
        let create = (1, false, OpenMode::Create);
        let (wal, _) = open(&handle, &device, seed, create).await?;
        wal.close().await.map_err(|why| why.to_string())?;
        drop(wal);

        let (wal, _) = open(&handle, &device, seed, (2, hasty, OpenMode::Existing)).await?;
        let mut rng = Rng::new(seed, "frames");
        let mut acknowledged = Frames::new();
        for number in 0..rng.between(1, 20) {
            let frame = vec![number as u8; usize::try_from(rng.between(16, 900)).unwrap_or(16)];
            let permit = wal.reserve(frame.len()).await;
            let permit = permit.map_err(|why| why.to_string())?;
            let append = wal.append(permit, Frame::new(&[], Bytes::from(frame.clone())));
            let append = append.map_err(|why| why.to_string())?;
            let lsn = append.lsn();
            append.await.map_err(|why| why.to_string())?;
            acknowledged.insert(lsn, frame);
        }
        // Power fails; any subset of the sectors that no flush covers may have landed.
        handle.kill(Tag(2));
        device.power_loss(CrashStyle::Sectors);
        drop(wal);

        let (_, served) = open(&handle, &device, seed, (3, false, OpenMode::Existing)).await?;
        let missing = acknowledged
            .iter()
            .find(|(lsn, frame)| served.get(lsn) != Some(frame));
        match missing {
            None => Ok(()),
            Some((lsn, _)) => Err(format!(
                "the frame at {lsn} was acknowledged and did not come back"
            )),
        }
    };
    match executor.run(LIMITS, run) {
        Ok(outcome) => outcome.err(),
        Err(stop) => Some(stop.to_string()),
    }
}

/// The first of `seeds` seeds that loses something.
fn find(hasty: bool, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| Some((seed, lost(seed, hasty)?)))
}

fn main() -> ExitCode {
    if let Some((seed, what)) = find(false, 200) {
        println!("the right disk, seed {seed}: {what}");
        return ExitCode::FAILURE;
    }
    println!("the right disk: 200 seeds, nothing lost");
    match find(true, 200) {
        Some((seed, what)) => {
            println!("the hasty disk, seed {seed}: {what}");
            ExitCode::SUCCESS
        }
        None => {
            println!("the hasty disk: not found in 200 seeds");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{find, lost};

    #[test]
    fn a_disk_that_flushes_nothing_is_found_and_a_right_one_is_not_blamed() {
        let (seed, what) = find(true, 50).expect("found within 50 seeds");
        // Frames are gone, or the log notices that some in the middle are and refuses to open.
        let is_loss = what.contains("did not come back") || what.contains("is damaged");
        assert!(is_loss, "{what}");
        assert_eq!(lost(seed, true), Some(what), "the seed shows it again");
        assert_eq!(find(false, 50), None);
    }
}
