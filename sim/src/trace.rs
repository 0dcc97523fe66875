//! The trace hash: one number that differs as soon as two runs differ.
//!
//! *Owns*: the hash over every poll, timer, I/O and draw, its check-points, and the
//! lines of a run that is told.
//! *Does not own*: what counts as an event; the executor and the ports note them. What lines
//! mean (trace/story.rs).
//!
//! Invariants
//! 1. The hash depends on the events alone: no address, no clock, no hash seed.
//! 2. A check-point is kept every 1,024 events, so that a divergence can be bisected.
//!
//! *IO: none*

pub(crate) mod lanes;
pub(crate) mod story;
pub(crate) mod timeline;

/// Events between two check-points.
const CHECKPOINT_EVENTS: u64 = 1024;
/// An odd constant of our own; multiplication spreads each word over the hash.
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task was polled.
    Poll,
    /// Virtual time moved to a timer or a completion.
    Timer,
    /// A component drew a number.
    Draw,
    /// The disk took or finished an operation.
    Disk,
    /// The bucket took, applied or answered a request.
    Bucket,
    /// A scenario did something worth telling.
    Note,
    /// Bytes arrived, or a connection was made.
    Net,
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Hash and check-points alone.
    #[default]
    Hash,
    /// What components say, in words.
    Lines,
    /// Each event too.
    Events,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Events before it.
    pub(crate) event: u64,
    pub(crate) at_ns: u64,
    /// The life whose task ran; 0 is the world.
    pub(crate) life: u32,
    /// Its first word names the part that speaks; `key=value` words name what it speaks of.
    pub(crate) text: String,
}

impl Line {
    /// Whether it is an event that was noted, and nothing that somebody said.
    pub(crate) fn is_event(&self) -> bool {
        self.text.starts_with("event ")
    }
}

/// The running hash of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    num_events: u64,
    checkpoints: Vec<u64>,
    keep: Keep,
    lines: Vec<Line>,
}

impl Trace {
    /// Notes an event with two words that tell it from others.
    pub(crate) fn note(&mut self, event: Event, first: u64, second: u64) {
        self.mix(((event as u64 + 1) << 56) ^ first);
        self.mix(second);
        if self.keep == Keep::Events {
            let (number, at_ns) = (self.num_events, self.lines.last().map_or(0, |l| l.at_ns));
            let text = format!("event {number} {event:?} {first:x} {second:x}");
            self.lines.push(Line {
                event: number,
                at_ns,
                life: 0,
                text,
            });
        }
        self.num_events += 1;
        if self.num_events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(self.hash);
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }

    /// Tells what follows.
    pub(crate) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Whether lines are wanted.
    pub(crate) fn is_told(&self) -> bool {
        self.keep != Keep::Hash
    }

    /// Adds a line if lines are kept.
    pub(crate) fn line(&mut self, at_ns: u64, life: u32, text: impl FnOnce() -> String) {
        if self.is_told() {
            let (event, text) = (self.num_events, text());
            self.lines.push(Line {
                event,
                at_ns,
                life,
                text,
            });
        }
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        // The count goes in, so that a run that only ends earlier differs too.
        (self.hash ^ self.num_events).wrapping_mul(MULTIPLIER)
    }

    /// Events so far.
    pub(crate) fn num_events(&self) -> u64 {
        self.num_events
    }

    /// The hash after each 1,024 events.
    pub(crate) fn checkpoints(&self) -> &[u64] {
        &self.checkpoints
    }

    /// What was told.
    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:>12.3}us {}", self.at_ns as f64 / 1e3, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Trace};

    fn hash(events: &[(Event, u64, u64)]) -> u64 {
        let mut trace = Trace::default();
        for (event, first, second) in events {
            trace.note(*event, *first, *second);
        }
        trace.hash()
    }

    #[test]
    fn order_kind_and_number_of_events_all_count() {
        let one = hash(&[(Event::Poll, 1, 2), (Event::Disk, 3, 4)]);
        assert_eq!(one, hash(&[(Event::Poll, 1, 2), (Event::Disk, 3, 4)]));
        assert_ne!(one, hash(&[(Event::Disk, 3, 4), (Event::Poll, 1, 2)]));
        assert_ne!(one, hash(&[(Event::Poll, 1, 2), (Event::Draw, 3, 4)]));
        assert_ne!(one, hash(&[(Event::Poll, 1, 2)]));
    }

    #[test]
    fn a_checkpoint_is_kept_every_1024_events() {
        let mut trace = Trace::default();
        for word in 0..2048 {
            trace.note(Event::Note, word, 0);
        }
        assert_eq!(trace.checkpoints().len(), 2);
        assert_ne!(trace.checkpoints()[0], trace.checkpoints()[1]);
    }
}
