//! Behaviour of the simulated device as a process sees it.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_wal::{AlignedBuf, Completion, Disk, DiskOp};

use super::{CrashStyle, Device, DiskFaults, DiskShape, SimDisk};
use crate::exec::{Executor, Handle, Limits};

const LIMITS: Limits = Limits {
    polls: 100_000,
    time: Duration::from_secs(60),
};
const SHAPE: DiskShape = DiskShape {
    block_bytes: 512,
    sector_bytes: 512,
    write_ns: 1000,
    flush_ns: 1000,
    is_file: false,
};

fn run<F: Future<Output = ()> + Send + 'static>(
    faults: DiskFaults,
    test: impl FnOnce(Device, Handle) -> F,
) {
    let executor = Executor::new(1);
    let device = Device::new(executor.handle(), 1, SHAPE, faults);
    executor
        .run(LIMITS, test(device, executor.handle()))
        .unwrap();
}

fn write(byte: u8, blocks: usize) -> DiskOp {
    let mut buf = AlignedBuf::new(512 * blocks, 512);
    buf.extend_from_slice(&vec![byte; 512 * blocks]);
    DiskOp::Write {
        position: 0,
        buf,
        durable: false,
    }
}

async fn done(disk: &mut SimDisk, handle: &Handle) -> Completion {
    loop {
        if let Some(completion) = disk.poll() {
            return completion;
        }
        handle.sleep(Duration::from_nanos(200)).await;
    }
}

#[test]
fn what_was_written_reads_back_and_only_a_flush_makes_it_durable() {
    run(DiskFaults::default(), async |device, handle| {
        let mut disk = device.open().unwrap();
        disk.submit(1, write(7, 2));
        assert_eq!(done(&mut disk, &handle).await.result.unwrap(), 1024);
        disk.submit(
            2,
            DiskOp::Read {
                position: 0,
                buf: AlignedBuf::new(2048, 512),
            },
        );
        let read = done(&mut disk, &handle).await;
        assert_eq!(read.result.unwrap(), 1024);
        assert_eq!(read.buf.unwrap().as_slice(), [7; 1024]);
        assert_eq!(device.durable_bytes(0, 1024), Vec::<u8>::new());
        disk.submit(3, DiskOp::Flush);
        done(&mut disk, &handle).await.result.unwrap();
        assert_eq!(device.durable_bytes(0, 1024), vec![7; 1024]);
    });
}

#[test]
fn the_lock_frees_only_when_the_last_write_of_a_killed_process_has_landed() {
    run(DiskFaults::default(), async |device, handle| {
        let mut disk = device.open().unwrap();
        assert!(device.open().is_none());
        for id in 0..16 {
            disk.submit(id, write(7, 1));
        }
        device.kill();
        assert!(device.open().is_none(), "writes are under way");
        handle.sleep(Duration::from_millis(1)).await;
        drop(disk);
        assert!(device.open().is_some());
    });
}

#[test]
fn with_late_landing_a_write_arrives_after_the_next_process_began() {
    let faults = DiskFaults {
        late_landing: 1000,
        ..DiskFaults::default()
    };
    run(faults, async |device, handle| {
        let mut disk = device.open().unwrap();
        for id in 0..16 {
            disk.submit(id, write(7, 1));
        }
        device.kill();
        let mut next = device.open().unwrap();
        next.submit(
            1,
            DiskOp::Read {
                position: 0,
                buf: AlignedBuf::new(512, 512),
            },
        );
        handle.sleep(Duration::from_millis(1)).await;
        next.submit(
            2,
            DiskOp::Read {
                position: 0,
                buf: AlignedBuf::new(512, 512),
            },
        );
        handle.sleep(Duration::from_millis(1)).await;
        assert!(disk.poll().is_none(), "a dead process hears nothing");
        let last = std::iter::from_fn(|| next.poll()).last().unwrap();
        assert_eq!(last.buf.unwrap().as_slice(), [7; 512]);
        let counts = device.fault_counts();
        assert!(counts.iter().any(|(name, _)| *name == "disk_late_landing"));
    });
}

#[test]
fn with_late_landing_a_write_arrives_where_its_volume_went() {
    let faults = DiskFaults {
        late_landing: 1000,
        ..DiskFaults::default()
    };
    run(faults, async |device, handle| {
        let mut old = device.open().unwrap();
        for id in 0..16 {
            old.submit(id, write(7, 1));
        }
        assert!(device.detach(CrashStyle::None));
        let mut new = device.open().expect("the volume is free at once");
        for _ in 0..16 {
            assert!(done(&mut old, &handle).await.result.is_err());
        }
        handle.sleep(Duration::from_millis(1)).await;
        new.submit(1, DiskOp::Flush);
        done(&mut new, &handle).await.result.unwrap();
        assert_eq!(device.durable_bytes(0, 512), vec![7; 512]);
    });
}

#[test]
fn a_lying_flush_strikes_once_and_no_later_flush_makes_up_for_it() {
    run(DiskFaults::default(), async |device, handle| {
        let mut disk = device.open().unwrap();
        device.lie_next(true);
        disk.submit(1, DiskOp::Flush);
        done(&mut disk, &handle).await.result.unwrap();
        for (id, op) in [(2, write(7, 1)), (3, DiskOp::Flush), (4, DiskOp::Flush)] {
            disk.submit(id, op);
            done(&mut disk, &handle).await.result.unwrap();
        }
        assert!(device.durable_bytes(0, 512).is_empty());
        assert_eq!(device.image().bytes(0, 512), vec![7; 512]);
        for (id, op) in [(5, write(8, 1)), (6, DiskOp::Flush)] {
            disk.submit(id, op);
            done(&mut disk, &handle).await.result.unwrap();
        }
        assert_eq!(device.durable_bytes(0, 512), vec![8; 512]);
        assert_eq!(device.fault_counts(), [("disk_lying_flush", 1)]);
    });
}

#[test]
fn a_stale_read_gives_one_block_as_it_was_and_then_as_it_is() {
    run(DiskFaults::default(), async |device, handle| {
        let mut disk = device.open().unwrap();
        disk.submit(1, write(7, 4));
        done(&mut disk, &handle).await.result.unwrap();
        device.show_older(Some(device.image()));
        disk.submit(2, write(8, 2));
        done(&mut disk, &handle).await.result.unwrap();
        let mut odd = 0;
        for id in 3..60 {
            let buf = AlignedBuf::new(2048, 512);
            disk.submit(id, DiskOp::Read { position: 0, buf });
            let read = done(&mut disk, &handle).await.buf.unwrap();
            let whole = [[8; 1024], [7; 1024]].concat();
            if read.as_slice() != whole {
                odd += 1;
                let at = usize::try_from(device.stale_at().unwrap()).unwrap();
                assert!(at == 0 || at == 512);
                let mut was = whole;
                was[at..at + 512].fill(7);
                assert_eq!(read.as_slice(), was);
            }
        }
        assert_eq!(odd, 1);
        assert_eq!(device.fault_counts(), [("disk_stale_read", 1)]);
    });
}

#[test]
fn a_forked_crash_leaves_the_device_alone() {
    run(DiskFaults::default(), async |device, handle| {
        let mut disk = device.open().unwrap();
        disk.submit(1, write(7, 1));
        done(&mut disk, &handle).await.result.unwrap();
        let other = Executor::new(2);
        let all = device.fork(other.handle(), 3, CrashStyle::All);
        let none = device.fork(other.handle(), 3, CrashStyle::None);
        assert_eq!(all.durable_bytes(0, 512), vec![7; 512]);
        assert!(none.durable_bytes(0, 512).is_empty());
        assert!(device.durable_bytes(0, 512).is_empty());
    });
}

#[test]
fn every_fault_strikes_and_is_counted() {
    let faults = DiskFaults {
        read_eio: 100,
        write_eio: 100,
        flush_eio: 100,
        enospc: 100,
        short_write: 200,
        short_read: 200,
        cancelled: 100,
        slow: 0,
        removed: 0,
        name_eio: 0,
        late_landing: 0,
        lying_flush: 100,
        misdirected_write: 100,
        stale_read: 100,
    };
    run(faults, async |device, handle| {
        let mut disk = device.open().unwrap();
        for id in 0..300 {
            disk.submit(id, write(7, 4));
            drop(done(&mut disk, &handle).await);
            disk.submit(
                id,
                DiskOp::Read {
                    position: 0,
                    buf: AlignedBuf::new(2048, 512),
                },
            );
            drop(done(&mut disk, &handle).await);
            disk.submit(id, DiskOp::Flush);
            drop(done(&mut disk, &handle).await);
        }
        assert_eq!(
            device.fault_counts().len(),
            10,
            "{:?}",
            device.fault_counts()
        );
    });
}

#[test]
fn a_removed_device_fails_every_operation_until_it_is_opened_again() {
    let faults = DiskFaults {
        removed: 1000,
        ..DiskFaults::default()
    };
    run(DiskFaults::default(), async move |device, handle| {
        let mut disk = device.open().unwrap();
        disk.submit(1, write(7, 1));
        done(&mut disk, &handle).await.result.unwrap();
        disk.submit(2, DiskOp::Flush);
        done(&mut disk, &handle).await.result.unwrap();
        device.set_faults(faults);
        disk.submit(3, write(8, 1));
        let first = done(&mut disk, &handle).await;
        device.set_faults(DiskFaults::default());
        disk.submit(4, DiskOp::Flush);
        let second = done(&mut disk, &handle).await;
        for completion in [first, second] {
            let errno = completion.result.unwrap_err().raw_os_error();
            assert!(matches!(errno, Some(5 | 6 | 19)), "{errno:?}");
        }
        assert!(device.is_removed());
        drop(disk);
        let mut disk = device.open().unwrap();
        disk.submit(5, DiskOp::Flush);
        done(&mut disk, &handle).await.result.unwrap();
        let kept = device.durable_bytes(0, 512);
        assert!(kept == [7; 512] || kept == [8; 512]);
    });
}

#[test]
fn a_slow_operation_takes_its_time_and_succeeds() {
    let faults = DiskFaults {
        slow: 1000,
        ..DiskFaults::default()
    };
    run(faults, async |device, handle| {
        let mut disk = device.open().unwrap();
        disk.submit(1, write(7, 1));
        handle.sleep(Duration::from_millis(190)).await;
        assert!(disk.poll().is_none());
        handle.sleep(Duration::from_secs(5)).await;
        assert_eq!(disk.poll().unwrap().result.unwrap(), 512);
    });
}

#[test]
fn a_user_whose_volume_went_elsewhere_hears_errors_and_reaches_nothing() {
    run(DiskFaults::default(), async |device, handle| {
        let mut old = device.open().unwrap();
        old.submit(1, write(7, 1));
        assert!(device.detach(CrashStyle::None));
        let mut new = device.open().expect("the volume is free at once");
        for (id, op) in [(2, write(8, 1)), (3, DiskOp::Flush)] {
            old.submit(id, op);
        }
        for id in 1..=3 {
            let failed = done(&mut old, &handle).await;
            assert_eq!(failed.id, id);
            assert_eq!(failed.result.unwrap_err().raw_os_error(), Some(5));
            assert_eq!(failed.buf.is_some(), id < 3);
        }
        assert!(old.publish().is_err() && old.poll().is_none());
        new.submit(1, write(9, 1));
        done(&mut new, &handle).await.result.unwrap();
        drop(old);
        new.submit(2, DiskOp::Flush);
        done(&mut new, &handle).await.result.unwrap();
        assert_eq!(device.durable_bytes(0, 512), vec![9; 512]);
        assert!(device.detach(CrashStyle::All));
        assert!(!device.detach(CrashStyle::All), "nobody has it open");
    });
}
