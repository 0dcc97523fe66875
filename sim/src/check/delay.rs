//! A cluster has one deletion delay: what processes may believe follows from it.
//!
//! *Owns*: how the opening with another delay must end. *Does not own*: the opening.
//!
//! *IO: none*

use tidewater_s3stream::MetaError;

use super::Violation;

/// A process whose deletion delay is not the cluster's opened, in a fork without faults.
///
/// # Errors
/// It was let in, or refused for another reason.
pub(crate) fn opened(ended: Result<(), MetaError>) -> Result<(), Violation> {
    match ended {
        Err(MetaError::OtherDeleteDelay { .. }) => Ok(()),
        Ok(()) => Err(Violation::new("delay", "another deletion delay was let in")),
        Err(error) => Err(Violation::new("fork", format!("not refused: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::opened;
    use tidewater_s3stream::MetaError;

    fn verdict(ended: Result<(), MetaError>) -> &'static str {
        opened(ended)
            .err()
            .map_or("", |violation| violation.checker)
    }

    #[test]
    fn a_refusal_by_name_passes() {
        let (own, cluster) = (Duration::from_secs(3), Duration::from_secs(1));
        assert_eq!(
            verdict(Err(MetaError::OtherDeleteDelay { own, cluster })),
            ""
        );
    }

    #[test]
    fn whoever_is_let_in_is_seen() {
        assert_eq!(verdict(Ok(())), "delay");
    }

    #[test]
    fn another_refusal_is_seen() {
        let (seq, boundary) = (3, 9);
        assert_eq!(verdict(Err(MetaError::Outpaced { seq, boundary })), "fork");
        let key = "meta/log/7".to_owned();
        assert_eq!(verdict(Err(MetaError::MissingEntry { key })), "fork");
        let (field, range) = ("delete_delay", "at least 1 ms");
        let invalid = MetaError::InvalidConfig { field, range };
        assert_eq!(verdict(Err(invalid)), "fork");
    }
}
