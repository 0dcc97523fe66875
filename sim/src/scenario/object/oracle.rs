//! What is asked at every opening and every acknowledgement.
//!
//! *Owns*: the durability oracle: would a takeover of the bucket as it is now serve this frame?
//! *Does not own*: the models.
//!
//! Invariants
//! 1. The takeover of the oracle runs on a copy, on an executor of its own, without faults.
//! 2. Nothing that was appended after a later owner had opened is ever acknowledged.
//!
//! *IO: none*

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{Env, Epoch, Lsn, sometimes};
use tidewater_wal::{ObjectWal, OpenMode};

use super::life::Work;
use super::world::{World, identity};
use crate::check::frames::FrameModel;
use crate::check::{Violation, durable, fence, fork};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::scenario::common::{LIMITS, failure_of};
use crate::scenario::progress::served_word;

type Served = Vec<(Lsn, Vec<u8>)>;

impl World {
    /// The owner of `epoch` was told that the log is its own, and was served these frames. It is the
    /// last one for sure if it is there to do what follows the healing.
    pub(super) fn opened(&self, epoch: Epoch, served: &Served, work: Work) {
        let result = {
            let mut model = self.model.lock();
            if let Err(violation) = fence::opened(epoch, model.owner, work != Work::Planned) {
                drop(model);
                return self.fail(violation);
            }
            if epoch < model.owner {
                // A later owner was told first: what this one was served says nothing any more.
                sometimes!("object wal: opened after a later owner");
                return;
            }
            self.handle
                .line(|| format!("wal   epoch {epoch} opened served {}", served_word(served)));
            model.owner = epoch;
            model.frames.recovered(served)
        };
        self.check(result);
    }

    /// The frame of `value` was accepted by the owner of `epoch`.
    pub(super) fn appended(&self, epoch: Epoch, value: u64, lsn: Lsn) {
        self.handle
            .line(|| format!("wal   epoch {epoch} append value={value} lsn={lsn}"));
        let mut model = self.model.lock();
        if epoch < model.owner {
            sometimes!("object wal: a zombie appends");
            model.frames.doomed(value, lsn);
        } else {
            model.frames.appended(value, lsn);
        }
    }

    /// The frame of `value` was acknowledged by the owner of `epoch`.
    pub(super) fn acked(&self, epoch: Epoch, value: u64, lsn: Lsn, bytes: &[u8]) {
        self.handle
            .line(|| format!("wal   epoch {epoch} ack value={value} lsn={lsn}"));
        let (number, result) = {
            let mut model = self.model.lock();
            let result = fence::acked(&model.frames, epoch, value, lsn);
            model.frames.acked(value);
            model.num_forks += 1;
            (model.num_forks, result)
        };
        self.check(result);
        self.check(self.must_be_durable(number, lsn, bytes));
    }

    fn must_be_durable(&self, number: u64, lsn: Lsn, bytes: &[u8]) -> Result<(), Violation> {
        let served = self.takeover_now(number)?;
        let frames: FrameModel = {
            let model = self.model.lock();
            if !model.frames.is_wanted(lsn) {
                return Ok(());
            }
            model.frames.clone()
        };
        durable::served(&served, lsn, bytes)?;
        fork::all_promised(served, &frames)
    }

    /// What a takeover of the bucket as it is now would serve.
    fn takeover_now(&self, number: u64) -> Result<Served, Violation> {
        let seed = self.plan.seed ^ (number << 32);
        let executor = Executor::new(seed);
        let fork = self.bucket.fork(executor.handle(), seed);
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
        let config = self.config.clone();
        let served = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&served);
        let outcome = executor.run(LIMITS, async move {
            let on_frame = move |lsn: Lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec()));
            let mode = OpenMode::Existing;
            let opening = ObjectWal::open(Arc::new(fork), env, config, identity(), mode, on_frame);
            match opening.await {
                Ok(_) => Ok(()),
                Err(error) => Err(fork::refused("takeover", &error)),
            }
        });
        match failure_of(outcome) {
            Some(violation) => Err(violation),
            None => Ok(std::mem::take(&mut *served.lock())),
        }
    }
}
