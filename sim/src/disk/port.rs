//! One opened simulated disk: the port that the WAL engine talks to.
//!
//! *Owns*: what the engine calls. *Does not own*: the device.
//!
//! *IO: none*

use std::io;
use std::task::Waker;

use tidewater_wal::{Completion, Disk, DiskOp};

use super::device::SimDisk;
use super::ops::EIO;
use super::state::Name;

impl Disk for SimDisk {
    fn block_size(&self) -> usize {
        self.block_bytes
    }

    fn num_bytes(&self) -> u64 {
        let state = self.device.lock();
        let known = state.detached.get(&self.session).map(|user| user.num_bytes);
        let known = known.or_else(|| state.removed.map(|removal| removal.num_bytes));
        known.unwrap_or_else(|| state.layers.cache.num_bytes())
    }

    fn publish(&mut self) -> io::Result<()> {
        self.name(Name::Linked)
    }

    fn sync_name(&mut self) -> io::Result<()> {
        self.name(Name::Durable)
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        self.device.submit(self.session, id, op);
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut state = self.device.lock();
        if let Some(user) = state.detached.get_mut(&self.session) {
            return user.completions.pop_front();
        }
        let ours = state.session == self.session;
        if ours {
            state.completions.pop_front()
        } else {
            None
        }
    }

    fn set_waker(&mut self, waker: &Waker) {
        let mut state = self.device.lock();
        if let Some(user) = state.detached.get_mut(&self.session) {
            user.waker = Some(waker.clone());
        } else if state.session == self.session {
            state.waker = Some(waker.clone());
        }
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }
}

impl SimDisk {
    fn name(&mut self, name: Name) -> io::Result<()> {
        let mut state = self.device.lock();
        if state.detached.contains_key(&self.session) {
            Err(io::Error::from_raw_os_error(EIO))
        } else if state.session == self.session && state.open {
            state.set_name(name)
        } else {
            Ok(())
        }
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        self.device.close(self.session);
    }
}
