//! A stream whose deletion was answered is gone for good.
//!
//! *Owns*: of which streams the deletion began, and of which it was answered.
//! *Does not own*: the deletions, the metadata that are held against this.
//!
//! Invariants
//! 1. From the moment its deletion begins until it is answered a stream is there or not.
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_types::StreamId;

use super::Violation;

/// Streams that somebody set out to delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeletedModel {
    begun: BTreeSet<StreamId>,
    done: BTreeSet<StreamId>,
}

impl DeletedModel {
    /// Somebody sets out to delete the stream.
    pub(crate) fn begins(&mut self, stream: StreamId) {
        self.begun.insert(stream);
    }

    /// The deletion was answered.
    pub(crate) fn done(&mut self, stream: StreamId) {
        self.done.insert(stream);
    }

    /// Whether the stream may be gone.
    pub(crate) fn may_be_gone(&self, stream: StreamId) -> bool {
        self.begun.contains(&stream)
    }

    /// These are all streams, as whoever just read the metadata lists them.
    ///
    /// # Errors
    /// One of them was deleted.
    pub(crate) fn listed(
        &self,
        streams: impl IntoIterator<Item = StreamId>,
    ) -> Result<(), Violation> {
        let mut streams = streams.into_iter();
        match streams.find(|stream| self.done.contains(stream)) {
            Some(stream) => {
                let detail = format!("stream {stream} was deleted and is there");
                Err(Violation::new("deleted", detail))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeletedModel;
    use tidewater_types::StreamId;

    /// Stream 1 was deleted, the deletion of stream 2 was not answered.
    fn model() -> DeletedModel {
        let mut model = DeletedModel::default();
        model.begins(StreamId(1));
        model.done(StreamId(1));
        model.begins(StreamId(2));
        model
    }

    #[test]
    fn a_stream_whose_deletion_was_not_answered_is_there_or_not() {
        model().listed([StreamId(2), StreamId(3)]).unwrap();
        model().listed([]).unwrap();
        let gone = [1, 2, 3].map(|id| model().may_be_gone(StreamId(id)));
        assert_eq!(gone, [true, true, false]);
    }

    #[test]
    fn a_deleted_stream_that_is_there_is_seen_alone_or_among_others() {
        for streams in [&[1][..], &[1, 2], &[2, 3, 1]] {
            let listed = model().listed(streams.iter().map(|id| StreamId(*id)));
            assert_eq!(listed.unwrap_err().checker, "deleted");
        }
    }

    #[test]
    fn a_deletion_that_is_answered_late_counts_from_then_on() {
        let mut model = model();
        model.listed([StreamId(2)]).unwrap();
        model.done(StreamId(2));
        assert!(model.listed([StreamId(2)]).is_err());
    }
}
