//! What of the metadata can be watched.
//!
//! *Owns*: its names. *Does not own*: who watches (`watch`).
//!
//! *IO: none*

use tidewater_types::{NodeId, StreamId};

/// A part of the metadata that a [`crate::Watch`] asks about, or that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Everything. As a change: what changed is not known, read again whatever matters.
    All,
    /// A key: set or deleted.
    Key(String),
    /// All keys that begin so; never a change.
    Keys(String),
    /// A stream: created, opened, extended, trimmed or deleted.
    Stream(StreamId),
    /// All streams; never a change.
    Streams,
    /// A node: registered again, or its write-ahead log named.
    Node(NodeId),
    /// All nodes; never a change.
    Nodes,
}

impl Watched {
    /// Whether `change` is a part of this.
    pub(crate) fn covers(&self, change: &Self) -> bool {
        match (self, change) {
            (Self::All, _)
            | (_, Self::All)
            | (Self::Streams, Self::Stream(_))
            | (Self::Nodes, Self::Node(_)) => true,
            (Self::Keys(prefix), Self::Key(key)) => key.starts_with(prefix.as_str()),
            _ => self == change,
        }
    }
}
