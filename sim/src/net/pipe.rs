//! One direction of a connection.
//!
//! *Owns*: its two ends, what is on the wire, what has arrived, who waits for what.
//! *Does not own*: when something arrives (wires.rs).
//!
//! *IO: none*

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, Bytes};

use crate::exec::Tag;

/// A machine with an address: partitions stand between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

/// One direction of a connection: its number, and whether it leads to who listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId {
    pub(super) connection: u64,
    pub(super) inward: bool,
}

impl PipeId {
    pub(super) fn back(self) -> Self {
        Self {
            inward: !self.inward,
            ..self
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Bytes),
    /// The writer ended the stream.
    End,
}

impl Segment {
    /// Its length, 0 for the end.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::End => 0,
        }
    }
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) from: Host,
    pub(super) to: Host,
    /// The life of the node that listened.
    pub(super) life: Tag,
    pub(super) wire: VecDeque<Segment>,
    /// No segment arrives before the one in front of it.
    pub(super) due_ns: u64,
    /// Arrivals that a partition holds back.
    pub(super) stalled: u32,
    pub(super) arrived: VecDeque<Bytes>,
    /// Bytes on the wire or unread.
    pub(super) unread: usize,
    pub(super) ended: bool,
    pub(super) broken: bool,
    pub(super) reader_gone: bool,
    pub(super) writer_gone: bool,
    /// The writer's host lost its power: nothing more is sent, not even an end.
    pub(super) mute: bool,
    /// The reader's host is gone for good: not even a reset answers.
    pub(super) lost: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(from: Host, to: Host, life: Tag) -> Self {
        Self {
            from,
            to,
            life,
            wire: VecDeque::new(),
            due_ns: 0,
            stalled: 0,
            arrived: VecDeque::new(),
            unread: 0,
            ended: false,
            broken: false,
            reader_gone: false,
            writer_gone: false,
            mute: false,
            lost: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn arrive(&mut self, segment: Segment) {
        match segment {
            Segment::Data(bytes) => self.arrived.push_back(bytes),
            Segment::End => self.ended = true,
        }
        wake(&mut self.reader);
    }

    /// Takes up to `len` bytes of what has arrived.
    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        let first = self.arrived.front_mut()?;
        let taken = first.split_to(len.min(first.len()));
        if !first.has_remaining() {
            self.arrived.pop_front();
        }
        self.unread -= taken.len();
        wake(&mut self.writer);
        Some(taken)
    }

    /// A reset: whatever has not been read is lost.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.wire.clear();
        self.arrived.clear();
        self.stalled = 0;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// `host`, one of the two ends, is without power: it neither speaks nor hears.
    pub(super) fn forget(&mut self, host: Host) {
        if self.from == host {
            self.mute = true;
            self.wire.clear();
        }
        if self.to == host {
            self.reader_gone = true;
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
