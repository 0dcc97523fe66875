//! Appends on a store that goes wrong.
//!
//! *IO: none*

use super::conformance::Objects;
use super::fickle::Fate;
use super::*;

#[test]
fn it_conforms() {
    let world = World::default();
    let env: Arc<dyn Env> = Arc::new(world.env.clone());
    let kind = Objects {
        bucket: Arc::new(world.bucket.clone()),
        env: env.clone(),
        config: ObjectWalConfig::tiny(),
    };
    let suite = crate::conformance::run(&kind, env);
    world.env.run_for(suite, 10_000_000).expect("it ends");
}

#[test]
fn a_frame_that_comes_alone_goes_at_once_and_waiting_frames_share_an_object() {
    let world = World::default();
    let wal = world.create();
    world.bucket.take_creates();
    let appends: Vec<_> = (1..=20).map(|number| begin(&wal, number)).collect();
    world.env.run(async {
        for append in appends {
            append.await.unwrap();
        }
    });
    // All of them were there when the engine looked first.
    assert_eq!(world.bucket.take_creates(), [key_of(1, 2)]);
    world.bucket.plan(&[Fate::Silent]);
    let first = begin(&wal, 21);
    world.pass(1);
    let rest: Vec<_> = (22..=30).map(|number| begin(&wal, number)).collect();
    world.env.run(async {
        first.await.unwrap();
        for append in rest {
            append.await.unwrap();
        }
    });
    let mut creates = world.bucket.take_creates();
    creates.dedup();
    creates.sort();
    creates.dedup();
    assert_eq!(creates, [key_of(1, 3), key_of(1, 4)]);
}

#[test]
fn an_idle_wal_makes_no_request() {
    let world = World::default();
    let (_wal, _) = world.filled(3);
    world.pass(50);
    let before = world.bucket.num_requests();
    world.pass(100_000);
    assert_eq!(world.bucket.num_requests(), before);
}

#[test]
fn one_append_alone_is_one_request() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    let before = world.bucket.num_requests();
    world.append(&wal, 2);
    assert_eq!(world.bucket.num_requests(), before + 1);
}

#[test]
fn whatever_becomes_of_a_create_its_bytes_stay_at_its_key() {
    for fate in [Fate::LostAnswer, Fate::Late, Fate::Silent, Fate::Throttled] {
        let world = World::default();
        let (wal, _) = world.filled(1);
        world.bucket.take_creates();
        world.bucket.plan(&[fate, fate]);
        world.append(&wal, 2);
        let creates = world.bucket.take_creates();
        assert!(creates.len() > 1, "{fate:?}");
        assert!(
            creates.iter().all(|key| *key == key_of(1, 3)),
            "{fate:?}: {creates:?}"
        );
        world.env.run(world.bucket.land());
        world.append(&wal, 3);
        drop(wal);
        assert_eq!(numbers(&world.open().1), [1, 2, 3], "{fate:?}");
    }
}

#[test]
fn a_lost_answer_is_settled_by_reading_the_same_bytes_back_even_if_the_store_lags() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[Fate::LostAnswer]);
    world.bucket.hide(key_of(1, 3));
    world.append(&wal, 2);
    assert_eq!(world.keys().last(), Some(&key_of(1, 3)));
}

#[test]
fn a_hedged_create_that_meets_its_twin_is_ours() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.take_creates();
    world.bucket.plan(&[Fate::Silent]);
    let append = begin(&wal, 2);
    world.pass(1);
    assert_eq!(
        world.env.run(world.bucket.land()),
        1,
        "the first one lands unheard"
    );
    world.env.run(append).unwrap();
    assert_eq!(world.bucket.take_creates(), [key_of(1, 3), key_of(1, 3)]);
}

#[test]
fn acknowledgements_wait_for_every_object_before() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[
        Fate::Silent,
        Fate::Fine,
        Fate::Silent,
        Fate::Silent,
        Fate::Silent,
    ]);
    let first = begin(&wal, 2);
    world.pass(1);
    let second = begin(&wal, 3);
    let third = begin(&wal, 4);
    // The second object is there long before the first one's twin is sent.
    world.pass(3);
    assert_eq!(world.keys().last(), Some(&key_of(1, 4)));
    assert_eq!(wal.watermarks().durable, first.lsn());
    assert!(wal.watermarks().submitted > second.lsn());
    let order = Arc::new(Mutex::new(Vec::new()));
    for (n, append) in [(2, first), (3, second), (4, third)] {
        let order = order.clone();
        let heard = async move {
            append.await.unwrap();
            order.lock().push(n);
        };
        world.env.spawn("heard", Box::pin(heard));
    }
    world.pass(500);
    assert_eq!(*order.lock(), [2, 3, 4]);
}

#[test]
fn a_frame_that_is_not_durable_is_not_served() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[Fate::Silent]);
    let append = begin(&wal, 2);
    let read = wal.read(append.lsn());
    world.pass(1);
    assert_eq!(wal.watermarks().durable, append.lsn());
    let durable = world.env.run(async {
        let bytes = read.await.unwrap();
        assert_eq!(bytes, body(2));
        wal.watermarks().durable
    });
    assert_eq!(durable, append.end());
}

#[test]
fn a_store_that_never_answers_poisons_the_wal_and_what_was_sent_may_come_back() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[Fate::Late; 2000]);
    let append = begin(&wal, 2);
    let error = world.env.run(append).unwrap_err();
    assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
    assert!(matches!(wal.try_reserve(1), Err(WalError::Poisoned { .. })));
    world.bucket.plan(&[]);
    world.env.run(world.bucket.land());
    assert_eq!(numbers(&world.open().1), [1, 2]);
}

#[test]
fn room_is_bounded_and_comes_back_once_frames_are_durable() {
    let world = World::default();
    let wal = world.create();
    let num_bytes = wal.frame_bytes_max();
    assert!(matches!(
        wal.try_reserve(num_bytes + 1),
        Err(WalError::FrameTooLarge { .. })
    ));
    world.bucket.plan(&[Fate::Silent]);
    let permit = wal.try_reserve(num_bytes).unwrap();
    let append = wal
        .append(permit, frame_bytes(1, num_bytes).into())
        .unwrap();
    assert!(matches!(wal.try_reserve(0), Err(WalError::Full { .. })));
    world.env.run(append).unwrap();
    drop(wal.try_reserve(num_bytes).unwrap());
}

#[test]
fn trimmed_objects_go_once_the_trim_is_stated_and_fences_stay() {
    let world = World::default();
    let (wal, lsns) = world.filled(5);
    world.pass(50);
    assert_eq!(
        world.bucket.take_deletes(),
        [key_of(1, 1)],
        "the data says more"
    );
    wal.trim(lsns[3]);
    assert_eq!(wal.watermarks().trimmed, lsns[3]);
    world.pass(1);
    assert_eq!(
        world.bucket.take_deletes(),
        Vec::<String>::new(),
        "not before it is stated"
    );
    world.pass(100);
    // The idle WAL stated it in number 7: frames 1 to 3 are gone.
    let gone: Vec<_> = (2..=4).map(|seq| key_of(1, seq)).collect();
    assert_eq!(world.bucket.take_deletes(), gone);
    let before = world.bucket.num_requests();
    world.pass(10_000);
    assert_eq!(world.bucket.num_requests(), before, "idle again");
    drop(wal);
    let (wal, frames) = world.open();
    assert_eq!(numbers(&frames), [4, 5]);
    wal.trim(wal.watermarks().durable);
    world.pass(100);
    let last = world.append(&wal, 6);
    drop(wal);
    world.pass(100);
    let kept = world.keys();
    for key in [key_of(1, 0), key_of(1, 8)] {
        assert!(kept.contains(&key), "{key} of {kept:?}");
    }
    assert!(!kept.contains(&key_of(1, 5)), "{kept:?}");
    assert_eq!(world.open().1, [(last, body(6))]);
}

#[test]
fn a_trim_that_a_data_object_states_needs_no_object_of_its_own() {
    let world = World::default();
    let (wal, lsns) = world.filled(3);
    wal.trim(lsns[2]);
    world.append(&wal, 4);
    world.pass(100);
    assert_eq!(world.keys(), [key_of(1, 0), key_of(1, 4), key_of(1, 5)]);
}

#[test]
fn closing_makes_durable_what_lingers() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[Fate::Silent]);
    let appends = [begin(&wal, 2), begin(&wal, 3)];
    world.env.run(wal.close()).unwrap();
    world.env.run(async {
        for append in appends {
            append.await.unwrap();
        }
    });
    assert!(matches!(
        world.env.run(wal.reserve(1)),
        Err(WalError::Closed)
    ));
}
