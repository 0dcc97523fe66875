//! Whose turn it is to collect what is superfluous in the metadata.
//!
//! *Owns*: that one collects at a time, and that no request for it is lost.
//! *Does not own*: the collection (`collect`).
//!
//! *IO: none*

use parking_lot::Mutex;

/// Who collects: one at a time, and again if it was asked for meanwhile.
#[derive(Default)]
pub(super) struct Collecting {
    runs: bool,
    asked: bool,
}

/// The one that collects. If its task dies, by a panic, the next one may.
pub(super) struct Turn<'a> {
    collecting: &'a Mutex<Collecting>,
    is_over: bool,
}

impl<'a> Turn<'a> {
    /// Asks for a collection; the turn, unless somebody has it.
    pub(super) fn take(collecting: &'a Mutex<Collecting>) -> Option<Self> {
        let mut state = collecting.lock();
        state.asked = true;
        if state.runs {
            return None;
        }
        state.runs = true;
        let is_over = false;
        Some(Self {
            collecting,
            is_over,
        })
    }

    /// Whether a collection was asked for since the last call. If not, the turn is over: in the same
    /// moment, so that nobody's request is lost between the two.
    pub(super) fn is_asked(&mut self) -> bool {
        let mut collecting = self.collecting.lock();
        collecting.runs = std::mem::take(&mut collecting.asked);
        self.is_over = !collecting.runs;
        collecting.runs
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.collecting.lock().runs = false;
        }
    }
}
