//! What a takeover asks, and what it is answered.
//!
//! *Owns*: the two enums, so that its parts need not know each other.
//! *Does not own*: who asks what.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_bucket::ListPage;

use crate::object::format::Place;

/// What is asked of the driver; one thing at a time.
#[derive(Debug)]
pub(crate) enum Ask {
    /// One page of keys that begin with `prefix`, after `after`.
    List {
        prefix: String,
        after: Option<String>,
    },
    /// Create the entry, and say whose it is then.
    Put { place: Place, body: Bytes },
    /// Read the entries; `None` for those that are absent.
    Get { places: Vec<Place> },
    /// The log is ours.
    Done,
}

/// What the driver answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Begin.
    Begin,
    /// A page.
    Page(ListPage),
    /// The entry is there and it is ours.
    Ours,
    /// Something else is there.
    Foreign(Bytes),
    /// The entries, in the order asked for.
    Got(Vec<Option<Bytes>>),
}
