//! How lives end, and how they make bytes durable.
//!
//! *Owns*: these choices. *Does not own*: who draws them.
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// Power fails.
    PowerLoss,
    /// The process is killed, the machine stays up.
    Kill,
    /// The code is asked to close.
    Close,
}

/// How the device WAL makes bytes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sync {
    /// N writes, then one flush.
    Flush,
    /// Each write carries DSYNC.
    Dsync,
}
