//! A value outside its range.
//!
//! *Owns*: the error and the check. *Does not own*: any range.
//!
//! *IO: none*

/// A value outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it may be.
    pub range: &'static str,
}

pub(super) fn check(
    holds: bool,
    field: &'static str,
    range: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError { field, range })
    }
}
