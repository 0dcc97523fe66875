//! The writer, event by event.
//!
//! *IO: none*

use tidewater_types::{ClusterId, Epoch, NodeId, WalId};

use super::*;
use crate::object::ObjectWalConfig;
use crate::object::format::entry::{Kind, decode};
use crate::object::tuning;
use crate::testing::frame_bytes;

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn core(config: &ObjectWalConfig) -> Core {
    let epoch = Epoch(3);
    let owner = Owner {
        cluster: ClusterId([1; 16]),
        node: NodeId(1),
        wal: WalId([2; 16]),
        epoch,
        nonce: [3; 16],
    };
    let place = Place::new(epoch, 1);
    let start = Start {
        owner,
        items: vec![Item {
            place,
            lsn: Lsn(0),
            end: Lsn(0),
        }],
        trim: TrimPoint {
            place,
            ..TrimPoint::default()
        },
        lsn: Lsn(0),
        sweep: vec![],
    };
    let mut core = Core::new(at(0), start, tuning(config));
    core.handle_turn();
    core
}

fn config() -> ObjectWalConfig {
    ObjectWalConfig {
        linger_ms_max: 10,
        depth: 4,
        window: 4,
        hedge_ms: 0,
        ..ObjectWalConfig::tiny()
    }
}

fn frame(num_bytes: usize) -> Frame {
    frame_bytes(1, num_bytes).into()
}

/// The numbers of the objects to create now, where turns are to be had at any time.
fn created(core: &mut Core, now: Instant) -> Vec<u64> {
    let mut created = vec![];
    while let Some(effect) = core.poll_effect(now) {
        core.handle_turn();
        if let Effect::Create { seq, .. } = effect {
            created.push(seq);
        }
    }
    created
}

#[test]
fn under_load_an_object_collects_until_the_linger_is_over() {
    let mut core = core(&config());
    core.handle_frame(at(0), frame(10));
    assert_eq!(created(&mut core, at(0)), [2], "idle: at once");
    core.handle_frame(at(1), frame(10));
    core.handle_frame(at(5), frame(10));
    assert_eq!(created(&mut core, at(10)), [0u64; 0]);
    assert_eq!(core.timer(), Some(at(11)));
    assert_eq!(created(&mut core, at(11)), [3]);
    assert_eq!((core.submitted(), core.durable()), (Lsn(42), Lsn(0)));
}

#[test]
fn under_load_a_full_object_goes_before_the_linger_is_over() {
    let mut core = core(&config());
    core.handle_frame(at(0), frame(10));
    created(&mut core, at(0));
    for _ in 0..5 {
        core.handle_frame(at(1), frame(1000));
    }
    assert_eq!(created(&mut core, at(1)), [3], "4 KiB went, the rest waits");
    assert_eq!(core.submitted(), Lsn(14 + 4 * 1004));
    core.handle_created(at(2), 2, Ok(()));
    core.handle_created(at(2), 3, Ok(()));
    assert_eq!(created(&mut core, at(2)), [4], "idle again: at once");
}

#[test]
fn nothing_is_sent_beyond_the_window_or_the_depth() {
    let mut core = core(&ObjectWalConfig {
        depth: 2,
        linger_ms_max: 0,
        ..config()
    });
    let mut sent = vec![];
    for n in 0..6 {
        core.handle_frame(at(n), frame(10));
        sent.extend(created(&mut core, at(n)));
    }
    assert_eq!(sent, [2, 3]);
    // The second is durable, but not acknowledged: the first one is still under way.
    core.handle_created(at(7), 3, Ok(()));
    assert_eq!(core.durable(), Lsn(0));
    assert_eq!(created(&mut core, at(7)), [0u64; 0]);
    core.handle_created(at(8), 2, Ok(()));
    assert_eq!(core.durable(), Lsn(28));
    assert_eq!(created(&mut core, at(8)), [4]);
}

#[test]
fn each_entry_states_what_was_durable_and_trimmed_when_it_was_made() {
    let mut core = core(&config());
    let mut headers = vec![];
    for n in 2..6u64 {
        core.handle_frame(at(n), frame(10));
        while let Some(effect) = core.poll_effect(at(n)) {
            if let Effect::Create { seq, body, .. } = effect {
                let place = Place::new(Epoch(3), seq);
                headers.push(decode(&body.concat(), place).unwrap());
                core.handle_created(at(n), seq, Ok(()));
                core.handle_turn();
            }
        }
        core.handle_trim(at(n), Lsn(14 * (n - 2)));
    }
    let said: Vec<_> = headers
        .iter()
        .map(|header| (header.durable_seq, header.durable.0, header.trim.lsn.0))
        .collect();
    assert_eq!(said, [(1, 0, 0), (2, 14, 0), (3, 28, 14), (4, 42, 28)]);
    assert_eq!(headers[3].trim.place, Place::new(Epoch(3), 4));
    assert_eq!(headers[3].trim.entry_lsn, Lsn(28));
}

#[test]
fn a_foreign_object_fences_and_nothing_more_is_acknowledged() {
    let mut core = core(&ObjectWalConfig {
        linger_ms_max: 0,
        ..config()
    });
    for n in 0..3 {
        core.handle_frame(at(n), frame(10));
        created(&mut core, at(n));
    }
    let exists = BucketError::Exists { key: String::new() };
    core.handle_created(at(5), 2, Err(exists));
    assert!(matches!(
        core.poll_effect(at(5)),
        Some(Effect::Read { seq: 2 })
    ));
    let place = Place::new(Epoch(3), 2);
    let taker = Owner {
        epoch: Epoch(4),
        nonce: [9; 16],
        ..*core.owner()
    };
    let fence = taker.blank(Kind::Fence, place).encode(&[]);
    core.handle_read(at(6), 2, Ok(fence));
    assert!(matches!(
        core.failure(),
        Some(WalError::Fenced { by: Epoch(4), .. })
    ));
    core.handle_created(at(7), 3, Ok(()));
    core.handle_frame(at(7), frame(10));
    assert_eq!(
        (created(&mut core, at(8)), core.durable()),
        (Vec::<u64>::new(), Lsn(0))
    );
}

#[test]
fn damage_where_we_wanted_to_write_is_damage_and_no_fence() {
    let mut core = core(&config());
    core.handle_frame(at(0), frame(10));
    created(&mut core, at(0));
    let exists = BucketError::Exists { key: String::new() };
    core.handle_created(at(5), 2, Err(exists));
    created(&mut core, at(5));
    core.handle_read(at(6), 2, Ok(Bytes::from_static(b"rot")));
    assert!(matches!(core.failure(), Some(WalError::Poisoned { .. })));
}

#[test]
fn the_hedge_follows_the_slowest_in_a_hundred() {
    let mut core = core(&ObjectWalConfig {
        hedge_ms: 5,
        ..config()
    });
    core.handle_frame(at(0), frame(10));
    assert_eq!(created(&mut core, at(0)), [2]);
    assert_eq!(created(&mut core, at(5)), [2], "the setting");
    core.handle_created(at(40), 2, Ok(()));
    core.handle_frame(at(100), frame(10));
    assert_eq!(created(&mut core, at(100)), [3]);
    assert_eq!(created(&mut core, at(139)), [0u64; 0]);
    assert_eq!(created(&mut core, at(140)), [3], "as slow as the last one");
}
