//! Behaviour of the executor.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Executor, Limits, Stop, Tag};

const LIMITS: Limits = Limits {
    polls: 100_000,
    time: Duration::from_secs(3600),
};

/// The order in which ten tasks run, and the trace hash.
fn order_of_ten(seed: u64) -> (Vec<usize>, u64) {
    let executor = Executor::new(seed);
    let handle = executor.handle();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let order = Arc::clone(&seen);
    executor
        .run(LIMITS, async move {
            for number in 0..10 {
                let order = Arc::clone(&order);
                handle.spawn(
                    Tag(1),
                    "task",
                    Box::pin(async move { order.lock().push(number) }),
                );
            }
            handle.sleep(Duration::from_millis(1)).await;
        })
        .unwrap();
    let order = seen.lock().clone();
    (order, executor.trace_hash())
}

#[test]
fn the_same_seed_gives_the_same_order_and_hash_and_others_differ() {
    assert_eq!(order_of_ten(1), order_of_ten(1));
    assert_ne!(order_of_ten(1).0, order_of_ten(2).0);
    assert_ne!(order_of_ten(1).1, order_of_ten(2).1);
    let mut sorted = order_of_ten(3).0;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..10).collect::<Vec<_>>());
}

#[test]
fn time_is_virtual_and_sleepers_wake_in_order() {
    let executor = Executor::new(1);
    let handle = executor.handle();
    let woken = executor.run(LIMITS, async move {
        let start = handle.now();
        handle.sleep(Duration::from_secs(1800)).await;
        handle.now().since(start)
    });
    let slept = woken.unwrap();
    assert!(slept >= Duration::from_secs(1800) && slept < Duration::from_secs(1801));
}

#[test]
fn a_killed_node_runs_nothing_more() {
    let executor = Executor::new(1);
    let handle = executor.handle();
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    executor
        .run(LIMITS, async move {
            for tag in [Tag(1), Tag(2)] {
                let (handle2, counter) = (handle.clone(), Arc::clone(&counter));
                let task = async move {
                    handle2.sleep(Duration::from_millis(1)).await;
                    *counter.lock() += tag.0;
                };
                handle.spawn(tag, "task", Box::pin(task));
            }
            handle.sleep(Duration::from_micros(100)).await;
            handle.kill(Tag(1));
            handle.spawn(
                Tag(1),
                "ghost",
                Box::pin(async { panic!("a dead node ran") }),
            );
            handle.sleep(Duration::from_millis(5)).await;
        })
        .unwrap();
    assert_eq!(*count.lock(), 2);
}

#[test]
fn deadlock_endless_loop_and_panic_are_told_apart() {
    let executor = Executor::new(1);
    let stop = executor.run(LIMITS, std::future::pending::<()>());
    assert!(matches!(stop, Err(Stop::Deadlock { .. })));

    let executor = Executor::new(1);
    let handle = executor.handle();
    let stop = executor.run(
        Limits {
            polls: 100,
            ..LIMITS
        },
        async move {
            loop {
                handle.sleep(Duration::from_nanos(1)).await;
            }
            #[expect(unreachable_code, reason = "gives the loop a type")]
            ()
        },
    );
    assert!(matches!(stop, Err(Stop::Endless { .. })));

    let executor = Executor::new(1);
    let stop = executor.run(LIMITS, async { panic!("as {}", "told") });
    assert_eq!(
        stop,
        Err::<(), _>(Stop::Panic {
            label: "root",
            message: "as told".to_owned()
        })
    );
}

#[test]
fn a_stopped_node_runs_nothing_and_goes_on_where_it_was() {
    let executor = Executor::new(3);
    let handle = executor.handle();
    let times = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&times);
    executor
        .run(LIMITS, async move {
            let (node, log) = (handle.clone(), Arc::clone(&told));
            let task = async move {
                for _ in 0..3 {
                    node.sleep(Duration::from_millis(1)).await;
                    log.lock().push(node.now().0 / 1_000_000);
                }
            };
            handle.spawn(Tag(1), "task", Box::pin(task));
            handle.sleep(Duration::from_micros(1_500)).await;
            handle.stop(Tag(1));
            handle.sleep(Duration::from_millis(50)).await;
            assert_eq!(told.lock().len(), 1, "nothing ran meanwhile");
            handle.resume(Tag(1));
            handle.sleep(Duration::from_millis(10)).await;
        })
        .unwrap();
    assert_eq!(*times.lock(), [1, 51, 52]);
}
