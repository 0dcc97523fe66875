//! What a caller does about an error, whatever crate it came from.
//!
//! *Owns*: the six reactions. *Does not own*: the errors; each operation has an
//! enum of its own whose `kind()` answers one of these.
//!
//! *IO: none*

/// The reaction an error asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Nothing was changed, or nothing is known; the same call may be made again.
    Retry,
    /// A newer epoch owns the thing; the caller must stop acting for it.
    Fenced,
    /// The request itself is wrong; the same call fails again.
    Invalid,
    /// Stored bytes are not what was written; go no further, tell the operator.
    Corrupt,
    /// No room now; retry after back-pressure eases.
    Full,
    /// The component was closed or has failed for good; only a restart helps.
    Closed,
}
