//! What an append costs its caller: no allocation, once the pool has grown.
//!
//! *Owns*: an allocator that counts, thread by thread. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{BoxFuture, ClusterId, Env, Instant, NodeId};
use tidewater_wal::{DeviceWal, DeviceWalConfig, Frame, Identity, OpenMode, Wal, WalMode};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct TokioEnv(tokio::runtime::Handle, std::time::Instant);

impl Env for TokioEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.1.elapsed().as_nanos()).unwrap())
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _inside = self.0.enter();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        7
    }
}

const APPENDS: u64 = 400;

/// Allocations of this thread during `APPENDS` appends, each waited for.
fn allocations_of_appends(wal: &DeviceWal, body: &Bytes) -> u64 {
    let before = ALLOCATIONS.get();
    for _ in 0..APPENDS {
        let permit = wal.try_reserve(body.len() + 40).unwrap();
        let frame = Frame::new(&[1; 40], body.clone());
        wal.append(permit, frame).unwrap().wait().unwrap();
    }
    ALLOCATIONS.get() - before
}

#[test]
fn an_append_allocates_nothing_on_the_thread_of_its_caller() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let env = TokioEnv(runtime.handle().clone(), std::time::Instant::now());
    let folder = tempfile::tempdir().unwrap();
    let config = DeviceWalConfig {
        capacity_bytes: 16 << 20,
        mode: WalMode::Portable,
        ..DeviceWalConfig::default()
    };
    let identity = Identity {
        cluster: ClusterId([1; 16]),
        node: NodeId(1),
        wal: None,
    };
    let path = folder.path().join("wal");
    let opened = DeviceWal::open(
        &path,
        Arc::new(env),
        config,
        identity,
        OpenMode::Create,
        |_, _| {},
    );
    let (wal, _) = opened.unwrap();
    let body = Bytes::from(vec![7; 1000]);
    // The pool and the queue of those who wait grow once.
    allocations_of_appends(&wal, &body);
    wal.trim(wal.watermarks().durable);
    assert_eq!(allocations_of_appends(&wal, &body), 0);
}
