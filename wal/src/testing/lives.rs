//! Many lives of one WAL under crashes, judged by what was acknowledged.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{ClusterId, Env, Lsn, NodeId};

use super::env::{Rng, TestEnv};
use super::frame_bytes;
use super::model::Model;
use crate::port::{Frame, Wal};
use crate::{DeviceWal, DeviceWalConfig, Identity, OpenMode, WalError, WalMode};

const ROUNDS: u64 = 20_000;

/// What callers know.
#[derive(Default)]
struct Known {
    /// Acknowledged or recovered, not trimmed.
    acked: BTreeMap<Lsn, Bytes>,
    /// Everything ever appended there, newest last.
    appended: BTreeMap<Lsn, Vec<Bytes>>,
    trimmed: Lsn,
    number: u64,
}

impl Known {
    fn next_frame(&mut self, num_bytes: u64) -> Bytes {
        self.number += 1;
        frame_bytes(self.number, usize::try_from(num_bytes).unwrap() + 8)
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        node: NodeId(1),
        wal: None,
    }
}

/// Opens, with what was recovered.
pub(crate) async fn open(
    model: &Model,
    env: &TestEnv,
    config: DeviceWalConfig,
    mode: OpenMode,
) -> Result<(DeviceWal, Vec<(Lsn, Bytes)>, crate::RecoveryReport), WalError> {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let sink = frames.clone();
    let opening = DeviceWal::open_on(
        model.disk(),
        Arc::new(env.clone()),
        config,
        identity(),
        mode,
        move |lsn, frame| {
            sink.lock().push((lsn, frame));
        },
    );
    let (wal, report) = opening.await?;
    let frames = std::mem::take(&mut *frames.lock());
    Ok((wal, frames, report))
}

/// Checks what a recovery gave back; from now on callers know it.
fn judge(known: &mut Known, frames: &[(Lsn, Bytes)]) {
    let found: BTreeMap<_, _> = frames.iter().cloned().collect();
    for (lsn, bytes) in known.acked.iter().filter(|(lsn, _)| **lsn >= known.trimmed) {
        assert_eq!(found.get(lsn), Some(bytes), "acknowledged frame at {lsn}");
    }
    for (lsn, bytes) in &found {
        let ever = known
            .appended
            .get(lsn)
            .is_some_and(|all| all.contains(bytes));
        assert!(ever, "a frame at {lsn} that nobody appended there");
    }
    known.acked = found;
}

async fn work(wal: &DeviceWal, env: &TestEnv, known: &Arc<Mutex<Known>>, mut rng: Rng) {
    let most = if rng.one_in(4) { 2000 } else { 200 };
    for _ in 0..rng.below(most) {
        let num_bytes = if rng.one_in(6) {
            rng.below(20_000)
        } else {
            rng.below(900)
        };
        let bytes = known.lock().next_frame(num_bytes);
        let Ok(permit) = wal.try_reserve(bytes.len()) else {
            env.sleep(std::time::Duration::from_millis(1)).await;
            continue;
        };
        let frame = Frame::new(&bytes[..4], bytes.slice(4..));
        let Ok(append) = wal.append(permit, frame) else {
            return;
        };
        let lsn = append.lsn();
        known
            .lock()
            .appended
            .entry(lsn)
            .or_default()
            .push(bytes.clone());
        let book = known.clone();
        env.spawn(
            "ack",
            Box::pin(async move {
                if append.await.is_ok() {
                    book.lock().acked.insert(lsn, bytes);
                }
            }),
        );
        if rng.one_in(3) {
            env.sleep(std::time::Duration::from_micros(rng.below(2500)))
                .await;
        }
        if rng.one_in(12) {
            let mut known = known.lock();
            let to = known.acked.keys().copied().nth(known.acked.len() * 3 / 4);
            if let Some(lsn) = to {
                wal.trim(lsn);
                known.trimmed = known.trimmed.max(lsn);
            }
        }
    }
}

fn config(rng: &mut Rng) -> DeviceWalConfig {
    let mode = if rng.one_in(4) {
        WalMode::RingDsync
    } else {
        WalMode::Auto
    };
    DeviceWalConfig {
        mode,
        ..DeviceWalConfig::tiny()
    }
}

/// Whether a creation came to its second slot, and so maybe to its end.
fn may_exist(model: &Model) -> bool {
    model.image().get(32 * 1024).is_some_and(|&byte| byte != 0)
}

/// Runs the lives that follow from `seed`; panics if something acknowledged is lost.
pub(crate) fn lives(seed: u64) {
    let mut rng = Rng(seed);
    let env = TestEnv::default();
    let mut model = Model::new(rng.next());
    let known = Arc::new(Mutex::new(Known::default()));
    let config = config(&mut rng);
    let mut created = false;
    for _ in 0..6 {
        {
            let mut state = model.0.lock();
            state.short_one_in = if rng.one_in(3) { 20 } else { 0 };
            state.space = if rng.one_in(4) { 300_000 } else { usize::MAX };
        }
        let rounds = if rng.one_in(3) {
            rng.below(200)
        } else {
            ROUNDS
        };
        let open_mode = if created {
            OpenMode::Existing
        } else {
            OpenMode::Create
        };
        if let Some(opened) = env.run_for(open(&model, &env, config.clone(), open_mode), rounds) {
            created = true;
            // A late write of a creation that was killed may have come to its end meanwhile.
            let opened = match opened {
                Err(WalError::Exists { .. }) if open_mode == OpenMode::Create => {
                    env.run(open(&model, &env, config.clone(), OpenMode::Existing))
                }
                other => other,
            };
            let (wal, frames, _) = opened.expect("nothing is damaged");
            judge(&mut known.lock(), &frames);
            if rng.one_in(8) {
                model.0.lock().failing_flushes = 1;
            }
            let rounds = if rng.one_in(4) {
                rng.below(20_000)
            } else {
                rng.below(3000)
            };
            env.run_for(work(&wal, &env, &known, rng.clone()), rounds);
            rng.next();
            if rng.one_in(6) {
                env.run_for(wal.close(), ROUNDS);
            }
            // Acknowledgements under way are heard before the end.
            env.kill();
        } else {
            env.kill();
            // A creation that came to its end without being heard.
            created = created || may_exist(&model);
        }
        model.0.lock().failing_flushes = 0;
        if rng.one_in(2) {
            model = model.power_failure();
            created = created && may_exist(&model);
        } else {
            model.kill();
        }
    }
    model.heal();
    if created {
        let (_wal, frames, _) = env
            .run(open(&model, &env, config, OpenMode::Existing))
            .expect("nothing is damaged");
        judge(&mut known.lock(), &frames);
    }
}

#[cfg(feature = "mutants")]
/// Seeds until the mutant is noticed, if it is within `most`.
pub(crate) fn seeds_to_kill(mutant: u16, most: u64) -> Option<u64> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    tidewater_types::set_mutant(mutant);
    let killed = (0..most).find(|seed| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lives(*seed))).is_err()
    });
    tidewater_types::set_mutant(0);
    std::panic::set_hook(hook);
    killed.map(|seed| seed + 1)
}
