//! One opened simulated disk: the port that the WAL engine talks to.
//!
//! *Owns*: the session, and the buffers' filling. *Does not own*: the device.
//!
//! *IO: none*

use std::task::Waker;

use tidewater_wal::{AlignedBuf, Completion, Disk, DiskOp};

use super::{Device, POISON};

/// A device as one process has it open. Dropping it closes it.
pub struct SimDisk {
    device: Device,
    session: u64,
    block_bytes: usize,
}

impl SimDisk {
    pub(super) fn new(device: Device, session: u64, block_bytes: usize) -> Self {
        Self {
            device,
            session,
            block_bytes,
        }
    }
}

impl Disk for SimDisk {
    fn block_size(&self) -> usize {
        self.block_bytes
    }

    fn num_bytes(&self) -> u64 {
        self.device.lock().layers.cache.num_bytes()
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        self.device.submit(self.session, id, op);
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut state = self.device.lock();
        let ours = state.session == self.session;
        if ours {
            state.completions.pop_front()
        } else {
            None
        }
    }

    fn set_waker(&mut self, waker: &Waker) {
        let mut state = self.device.lock();
        if state.session == self.session {
            state.waker = Some(waker.clone());
        }
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        self.device.close(self.session);
    }
}

/// The bytes a write carries.
pub(super) fn filled(buf: &AlignedBuf) -> &[u8] {
    buf.as_slice()
}

/// Fills the whole buffer with what unread memory may hold.
pub(super) fn poison(buf: &mut AlignedBuf) {
    buf.as_mut_slice().fill(POISON);
    buf.clear();
}

/// Lets `read` fill the buffer; the number of bytes it read.
pub(super) fn fill(buf: &mut AlignedBuf, read: impl FnOnce(&mut [u8]) -> usize) -> usize {
    let moved = read(buf.as_mut_slice());
    buf.set_len(moved);
    moved
}
