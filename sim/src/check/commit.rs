//! What a commit may drop: nothing, once nobody takes streams from each other.
//!
//! *Owns*: the verdict on a report. *Does not own*: who owns which stream.
//!
//! *IO: none*

use tidewater_s3stream::CommitReport;

use super::Violation;

/// A node that owns its streams alone, or not, was told what became of a batch.
///
/// # Errors
/// It owns them alone, and a range was dropped.
pub(crate) fn told(report: &CommitReport, is_alone: bool) -> Result<(), Violation> {
    if !is_alone || report.dropped.is_empty() {
        return Ok(());
    }
    let dropped = &report.dropped;
    let detail = format!("dropped although nobody else owns it: {dropped:?}");
    Err(Violation::new("commit", detail))
}

#[cfg(test)]
mod tests {
    use super::told;
    use tidewater_s3stream::CommitReport;
    use tidewater_types::{Offset, OffsetRange, StreamId};

    fn ranges(of: &[(u64, u64, u64)]) -> Vec<(StreamId, OffsetRange)> {
        let range = |(stream, start, end): &(u64, u64, u64)| {
            let range = OffsetRange::new(Offset(*start), Offset(*end));
            (StreamId(*stream), range.expect("not empty"))
        };
        of.iter().map(range).collect()
    }

    fn report(committed: &[(u64, u64, u64)], dropped: &[(u64, u64, u64)]) -> CommitReport {
        CommitReport {
            committed: ranges(committed),
            dropped: ranges(dropped),
        }
    }

    fn is_seen(report: &CommitReport) -> bool {
        let told = told(report, true);
        told.is_err_and(|violation| violation.checker == "commit")
    }

    #[test]
    fn batches_that_are_committed_or_lost_to_another_owner_pass() {
        assert!(!is_seen(&report(&[(1, 0, 5), (2, 3, 4)], &[])));
        told(&report(&[(1, 0, 5)], &[(2, 3, 4)]), false).unwrap();
    }

    #[test]
    fn a_range_that_is_dropped_beside_others_is_seen() {
        assert!(is_seen(&report(&[(1, 0, 5)], &[(2, 3, 4)])));
    }

    #[test]
    fn a_whole_batch_that_is_dropped_is_seen() {
        assert!(is_seen(&report(&[], &[(1, 0, 5), (2, 3, 4)])));
    }

    #[test]
    fn a_range_that_is_committed_and_dropped_again_is_seen() {
        assert!(is_seen(&report(&[(1, 0, 5)], &[(1, 0, 5)])));
    }
}
