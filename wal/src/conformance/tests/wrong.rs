//! Logs with one thing wrong: the suite says which.
//!
//! *IO: none*

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Lsn};

use super::{MEMORY_BYTES, Memory, OnModel, conforms};
use crate::conformance::{Kind, Reopened};
use crate::testing::env::TestEnv;
use crate::{Append, Frame, MemoryWal, Permit, Reserve, Wal, WalCounters, WalError, Watermarks};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    LosesHeads,
    ReadsPastTheEnd,
    ReadsWhatIsTrimmed,
    TrimsBack,
    TrimsTooMuch,
    SaysTooMuchIsDurable,
    CountsTwice,
    NamesAWrongMaximum,
    NeverWaits,
    KeepsUnusedRoom,
    TakesFramesAfterItsEnd,
    IsOneLog,
}

struct Wrong {
    inner: MemoryWal,
    flaw: Flaw,
    last_trim: Mutex<Lsn>,
}

impl Wal for Wrong {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        match self.flaw {
            Flaw::NeverWaits => Reserve::ready(self.try_reserve(num_bytes)),
            Flaw::KeepsUnusedRoom => {
                std::mem::forget(self.inner.try_reserve(64));
                self.inner.reserve(num_bytes)
            }
            _ => self.inner.reserve(num_bytes),
        }
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        let answer = self.inner.try_reserve(num_bytes);
        match answer {
            Err(WalError::FrameTooLarge { num_bytes, max })
                if self.flaw == Flaw::NamesAWrongMaximum =>
            {
                Err(WalError::FrameTooLarge {
                    num_bytes,
                    max: max - 1,
                })
            }
            answer => answer,
        }
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        match self.flaw {
            Flaw::LosesHeads => self.inner.append(permit, frame.body().into()),
            _ => self.inner.append(permit, frame),
        }
    }

    fn trim(&self, up_to: Lsn) {
        *self.last_trim.lock() = up_to;
        if self.flaw == Flaw::TrimsTooMuch {
            self.inner.trim(Lsn(up_to.0.saturating_add(1)));
        } else {
            self.inner.trim(up_to);
        }
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let past = lsn >= self.inner.watermarks().accepted;
        let trimmed = lsn < self.inner.watermarks().trimmed;
        if (self.flaw == Flaw::ReadsPastTheEnd && past)
            || (self.flaw == Flaw::ReadsWhatIsTrimmed && trimmed)
        {
            return Box::pin(async { Ok(Bytes::new()) });
        }
        self.inner.read(lsn)
    }

    fn watermarks(&self) -> Watermarks {
        let mut marks = self.inner.watermarks();
        match self.flaw {
            Flaw::TrimsBack => marks.trimmed = marks.durable.min(*self.last_trim.lock()),
            Flaw::SaysTooMuchIsDurable => marks.durable = Lsn(marks.durable.0 + 1),
            _ => {}
        }
        marks
    }

    fn counters(&self) -> WalCounters {
        let mut counters = self.inner.counters();
        if self.flaw == Flaw::CountsTwice {
            counters.appends *= 2;
        }
        counters
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        match self.flaw {
            Flaw::TakesFramesAfterItsEnd => Box::pin(async { Ok(()) }),
            _ => self.inner.close(),
        }
    }
}

struct Wrongs {
    env: TestEnv,
    flaw: Flaw,
    only: Mutex<Option<Arc<dyn Wal>>>,
}

impl Kind for Wrongs {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move {
            if self.flaw == Flaw::IsOneLog && place > 0 {
                return Arc::clone(self.only.lock().as_ref().expect("made at place 0"));
            }
            let env = Arc::new(self.env.clone());
            let wal: Arc<dyn Wal> = Arc::new(Wrong {
                inner: MemoryWal::new(env, MEMORY_BYTES, 50),
                flaw: self.flaw,
                last_trim: Mutex::default(),
            });
            *self.only.lock() = Some(Arc::clone(&wal));
            wal
        })
    }

    fn reopen(&self, _: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async { None })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        Some(MEMORY_BYTES as u64)
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

fn complaint(env: &TestEnv, kind: &dyn Kind) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| conforms(env, kind)));
    outcome.err().map(|panic| said(&*panic))
}

#[test]
fn each_flaw_is_named() {
    for (flaw, expected) in [
        (Flaw::LosesHeads, "the frame at"),
        (Flaw::ReadsPastTheEnd, "read("),
        (Flaw::ReadsWhatIsTrimmed, "trimmed below"),
        (Flaw::TrimsBack, "a watermark went back"),
        (Flaw::TrimsTooMuch, "the trim point"),
        (Flaw::SaysTooMuchIsDurable, "durable"),
        (Flaw::CountsTwice, "appends"),
        (Flaw::NamesAWrongMaximum, "try_reserve"),
        (Flaw::NeverWaits, "reserve waits"),
        (Flaw::KeepsUnusedRoom, "full, 1000 times"),
        (
            Flaw::TakesFramesAfterItsEnd,
            "append with a permit from before",
        ),
        (Flaw::IsOneLog, "full, 1000 times"),
    ] {
        let env = TestEnv::default();
        let kind = Wrongs {
            env: env.clone(),
            flaw,
            only: Mutex::default(),
        };
        let found = complaint(&env, &kind);
        assert!(
            found.as_ref().is_some_and(|found| found.contains(expected)),
            "{flaw:?}: {found:?}"
        );
    }
}

/// A restart that spoils what recovery delivers.
struct Spoilt<F>(OnModel, F);

impl<F: Fn(&mut Vec<(Lsn, Bytes)>) + Send + Sync> Kind for Spoilt<F> {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        self.0.create(place)
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move {
            let mut reopened = self.0.reopen(place).await?;
            (self.1)(&mut reopened.frames);
            Some(reopened)
        })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        self.0.capacity_bytes()
    }
}

#[test]
fn a_restart_that_loses_alters_or_repeats_a_frame_is_noticed() {
    type Spoil = fn(&mut Vec<(Lsn, Bytes)>);
    let spoils: [Spoil; 4] = [
        |frames| drop(frames.pop()),
        |frames| drop((!frames.is_empty()).then(|| frames.remove(0))),
        |frames| frames.extend(frames.first().cloned()),
        |frames| {
            if let Some((_, body)) = frames.iter_mut().find(|(_, body)| !body.is_empty()) {
                *body = vec![0; body.len()].into();
            }
        },
    ];
    for spoil in spoils {
        let env = TestEnv::default();
        let kind = OnModel {
            env: env.clone(),
            disks: Mutex::default(),
        };
        assert!(complaint(&env, &Spoilt(kind, spoil)).is_some());
    }
}

#[test]
fn nothing_is_said_of_a_log_that_conforms() {
    let env = TestEnv::default();
    assert_eq!(complaint(&env, &Memory(env.clone())), None);
}
