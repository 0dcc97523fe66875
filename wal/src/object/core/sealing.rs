//! What goes into which object, and when it is sent.
//!
//! *Owns*: the batch that fills, the entries that state a trim, the header of each entry.
//! *Does not own*: what becomes of an entry (`core.rs`).
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Instant, Lsn, sometimes};

use super::{Core, Flight, Item};
use crate::object::format::Place;
use crate::object::format::entry::{HEADER_BYTES, Header, Kind, TrimPoint};
use crate::object::owner::{framed_bytes, payload};
use crate::object::put::Put;
use crate::port::Frame;

impl Core {
    pub(super) fn may_send(&self) -> bool {
        (self.has_turn || self.closing)
            && self.flights.len() < self.tuning.depth
            && self.next_seq <= self.durable_seq + self.tuning.window
    }

    /// Makes objects of what is to go now.
    pub(super) fn seal(&mut self, now: Instant) {
        while self.may_send() && self.batch_is_due(now) {
            let frames = self.take_batch();
            self.send(now, Kind::Data, &frames);
        }
        if self.state_is_wanted() && self.state_at() <= now {
            sometimes!("object wal: trim stated when idle");
            if self.closing {
                self.last_state = Some(self.next_seq);
            }
            self.send(now, Kind::State, &[]);
        }
    }

    fn batch_is_due(&self, now: Instant) -> bool {
        !self.batch.is_empty()
            && (self.flights.is_empty()
                || self.closing
                || self.batch_bytes >= self.tuning.object_bytes_max
                || self.batch_since.after(self.tuning.linger) <= now)
    }

    /// Whether a trim would stay unsaid, and objects be kept, for want of an entry to say it.
    pub(super) fn state_is_wanted(&self) -> bool {
        let limit = self.trim_wanted.min(self.durable);
        let holds_frames = |item: &&Item| item.end > item.lsn;
        self.is_drained()
            && self.last_state.is_none()
            && self.may_send()
            && self
                .items
                .iter()
                .find(holds_frames)
                .is_some_and(|item| item.end <= limit)
    }

    /// When a trim is stated for want of frames; a close does not wait for that.
    pub(super) fn state_at(&self) -> Instant {
        if self.closing {
            return Instant(0);
        }
        self.quiet_since.after(self.tuning.trim_idle)
    }

    fn take_batch(&mut self) -> Vec<Frame> {
        let (mut frames, mut num_bytes) = (Vec::new(), 0);
        while let Some(frame) = self.batch.front() {
            let more = framed_bytes(frame);
            if !frames.is_empty() && num_bytes + more > self.tuning.object_bytes_max {
                break;
            }
            num_bytes += more;
            frames.extend(self.batch.pop_front());
        }
        self.batch_bytes -= num_bytes;
        frames
    }

    fn send(&mut self, now: Instant, kind: Kind, frames: &[Frame]) {
        let payload = payload(frames);
        let num_bytes: usize = payload.iter().map(Bytes::len).sum();
        let place = Place::new(self.owner.epoch, self.next_seq);
        self.next_seq += 1;
        self.has_turn = false;
        let lsn = self.submitted;
        let header = Header {
            num_frames: u32::try_from(frames.len()).expect("bounded by the pool"),
            payload_bytes: u32::try_from(num_bytes).expect("bounded by the pool"),
            lsn,
            durable: self.durable,
            durable_seq: self.durable_seq,
            trim: self.trim_point(place, lsn),
            ..self.owner.blank(kind, place)
        };
        self.submitted = header.end();
        assert!(
            self.durable <= self.submitted && self.submitted <= self.accepted,
            "watermarks out of order"
        );
        let mut body = vec![header.encode(&payload)];
        body.extend(payload);
        self.flights.push_back(Flight {
            put: Put::new(
                now,
                (HEADER_BYTES + num_bytes) as u64,
                place.seq ^ u64::from(self.owner.nonce[0]),
            ),
            header,
            body,
            is_ours: false,
        });
    }

    /// Where the log begins, for an entry that will stand at `place`.
    fn trim_point(&self, place: Place, lsn: Lsn) -> TrimPoint {
        let limit = self.trim_wanted.min(self.durable);
        let wanted = self.items.iter().find(|item| item.end > limit);
        let flying = self
            .flights
            .front()
            .map(|flight| (flight.header.place, flight.header.lsn));
        let (first, entry_lsn) = wanted
            .map(|item| (item.place, item.lsn))
            .or(flying)
            .unwrap_or((place, lsn));
        TrimPoint {
            lsn: limit,
            place: first,
            entry_lsn,
        }
    }
}
