//! Opening what somebody else has for a moment.
//!
//! *Owns*: how long a test asks again. *Does not own*: what it opens.
//!
//! *IO: driver*

use std::time::Duration;

use crate::error::WalError;

/// A program that another test is just starting holds what is open here until it runs, locks too:
/// so somebody in the way is asked again.
pub(super) fn patiently<T>(attempt: impl Fn() -> Result<T, WalError>) -> Result<T, WalError> {
    for _ in 0..250 {
        match attempt() {
            Err(WalError::Busy { .. }) => std::thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
    attempt()
}
