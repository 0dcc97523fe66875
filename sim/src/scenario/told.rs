//! A WAL between a store and its real one, which tells what passes through it.
//!
//! *Owns*: the lines of frames that are taken, trimmed and recovered.
//! *Does not own*: the WAL, its opening; what is made of the lines (trace/story.rs).
//!
//! Invariants
//! 1. It is there only in a run that is told, and passes everything on as it is: such a run has the trace
//!    of one that is not told.
//!
//! *Format: docs/formats/store-frame.md*
//! *IO: none*

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{FrameSink, OpenedWal, WalExpectation, WalOpener};
use tidewater_types::{BoxFuture, ClusterId, Lsn, NodeId};
use tidewater_wal::{Append, Frame, Permit, Reserve, Wal, WalCounters, WalError, Watermarks};

use crate::check::{values_in, values_word};
use crate::exec::Handle;

/// What `opener` opens, told of if the run is told; `node` is whose WAL it is.
pub(crate) fn told(
    handle: &Handle,
    node: NodeId,
    opener: Box<dyn WalOpener>,
) -> Box<dyn WalOpener> {
    if !handle.is_told() {
        return opener;
    }
    let handle = handle.clone();
    Box::new(ToldOpener {
        opener,
        handle,
        node,
    })
}

struct ToldOpener {
    opener: Box<dyn WalOpener>,
    handle: Handle,
    node: NodeId,
}

impl WalOpener for ToldOpener {
    fn limit(&mut self, limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {
        self.opener.limit(limits);
    }

    fn peek(&self) -> BoxFuture<'_, Result<Option<ClusterId>, WalError>> {
        self.opener.peek()
    }

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        mut on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            let Self {
                opener,
                handle,
                node,
            } = *self;
            let recovered = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&recovered);
            let on_frame = move |lsn, frame: Bytes| {
                sink.lock().extend(values_in(&frame));
                on_frame(lsn, frame);
            };
            let opened = opener.open(expect, Box::new(on_frame)).await?;
            let values = std::mem::take(&mut *recovered.lock());
            handle.line(|| format!("wal   of={node} recovered {}", values_word(&values)));
            let wal = Arc::new(ToldWal {
                wal: opened.wal,
                handle,
                node,
            });
            Ok(OpenedWal { wal, ..opened })
        })
    }
}

struct ToldWal {
    wal: Arc<dyn Wal>,
    handle: Handle,
    node: NodeId,
}

impl Wal for ToldWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.wal.reserve(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.wal.try_reserve(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        let entry = entry(&frame.join());
        let append = self.wal.append(permit, frame)?;
        if let Some(entry) = entry {
            let (node, lsn) = (self.node, append.lsn());
            self.handle
                .line(|| format!("wal   of={node} takes {entry} lsn={lsn}"));
        }
        Ok(append)
    }

    fn trim(&self, up_to: Lsn) {
        let node = self.node;
        self.handle
            .line(|| format!("wal   of={node} trim up_to={up_to}"));
        self.wal.trim(up_to);
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        self.wal.read(lsn)
    }

    fn watermarks(&self) -> Watermarks {
        self.wal.watermarks()
    }

    fn counters(&self) -> WalCounters {
        self.wal.counters()
    }

    fn describe(&self) -> String {
        self.wal.describe()
    }

    fn frame_bytes_held(&self) -> usize {
        self.wal.frame_bytes_held()
    }

    fn confirm(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.wal.confirm()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.wal.close()
    }
}

/// The entry in a frame of the store, in words; `None` if it holds no value.
fn entry(frame: &[u8]) -> Option<String> {
    let values = values_in(frame);
    if values.is_empty() {
        return None;
    }
    let word = |at: usize| Some(u64::from_le_bytes(frame.get(at..at + 8)?.try_into().ok()?));
    let (count, stream, base) = (word(4)? & u64::from(u32::MAX), word(8)?, word(24)?);
    let end = base.wrapping_add(count);
    let values = values_word(&values);
    Some(format!("stream={stream} base={base} end={end} {values}"))
}

#[cfg(test)]
mod tests {
    use super::entry;
    use crate::check::payload;

    #[test]
    fn an_entry_is_told_with_its_place_and_its_values() {
        let mut frame = vec![1, 1, 0, 0];
        frame.extend(3_u32.to_le_bytes());
        for word in [9_u64, 2, 40, 7] {
            frame.extend(word.to_le_bytes());
        }
        assert_eq!(entry(&frame), None);
        frame.extend([payload(70, 20), payload(71, 16)].concat());
        let told = "stream=9 base=40 end=43 values=70,71";
        assert_eq!(entry(&frame).as_deref(), Some(told));
    }
}
