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

#[cfg(test)]
mod tests {
    use super::{Collecting, Turn};
    use parking_lot::Mutex;

    #[test]
    fn no_request_is_lost_and_a_turn_ends_with_its_holder() {
        let collecting = Mutex::new(Collecting::default());
        let mut first = Turn::take(&collecting).unwrap();
        assert!(first.is_asked());
        assert!(Turn::take(&collecting).is_none());
        assert!(first.is_asked(), "it was asked for meanwhile");
        assert!(!first.is_asked());
        let second = Turn::take(&collecting).unwrap();
        // The turn of the first is over, whatever becomes of it.
        drop(first);
        assert!(Turn::take(&collecting).is_none());
        drop(second);
        assert!(Turn::take(&collecting).is_some());
    }
}
