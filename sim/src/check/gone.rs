//! A reader that just read the metadata never meets an object that is gone.
//!
//! *Owns*: which answer to which request says so.
//! *Does not own*: whether objects outlive a fetch (the plan draws that), the request.
//!
//! *IO: none*

use tidewater_bucket::{BucketError, Purpose};

use super::Violation;

/// A request for `key` on behalf of a reader was answered; `outlives` if objects outlive a fetch.
///
/// # Errors
/// The object is gone.
pub(crate) fn answered<T>(
    purpose: Purpose,
    key: &str,
    answer: &Result<T, BucketError>,
    outlives: bool,
) -> Result<(), Violation> {
    let is_gone = matches!(answer, Err(BucketError::Absent { .. }));
    if is_gone && purpose == Purpose::Read && outlives {
        let detail = format!("{key} is gone under a reader that just read the metadata");
        return Err(Violation::new("404", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::answered;
    use tidewater_bucket::{BucketError, Purpose};

    fn absent(key: &str) -> Result<u64, BucketError> {
        let key = key.to_owned();
        Err(BucketError::Absent { key })
    }

    fn throttled(key: &str) -> Result<u64, BucketError> {
        let key = key.to_owned();
        Err(BucketError::Throttled { key })
    }

    /// How many answers of one fetch, which reads `a` and `b`, are seen.
    fn seen(purpose: Purpose, answers: &[Result<u64, BucketError>], outlives: bool) -> usize {
        let verdicts = ["a", "b", "b"].iter().zip(answers);
        let verdicts = verdicts.map(|(key, answer)| answered(purpose, key, answer, outlives));
        let is_it = |verdict: &Result<(), _>| verdict.is_err();
        verdicts.filter(is_it).count()
    }

    #[test]
    fn fetches_that_are_answered_or_fail_for_another_reason_pass() {
        assert_eq!(seen(Purpose::Read, &[Ok(1), Ok(2)], true), 0);
        assert_eq!(seen(Purpose::Read, &[throttled("a"), Ok(2)], true), 0);
    }

    #[test]
    fn what_may_go_at_any_time_may_be_gone() {
        assert_eq!(seen(Purpose::Read, &[absent("a"), absent("b")], false), 0);
        assert_eq!(seen(Purpose::Meta, &[absent("a"), Ok(2)], true), 0);
    }

    #[test]
    fn the_first_object_of_a_fetch_that_is_gone_is_seen() {
        assert_eq!(seen(Purpose::Read, &[absent("a"), Ok(2)], true), 1);
        let violation = answered(Purpose::Read, "a", &absent("a"), true).unwrap_err();
        assert_eq!(violation.checker, "404");
        assert!(violation.detail.starts_with("a is gone"), "{violation}");
    }

    #[test]
    fn a_later_object_of_a_fetch_that_is_gone_is_seen() {
        assert_eq!(seen(Purpose::Read, &[Ok(1), absent("b")], true), 1);
        assert_eq!(seen(Purpose::Read, &[absent("a"), absent("b")], true), 2);
    }

    #[test]
    fn an_object_that_goes_between_two_attempts_is_seen() {
        let answers = [Ok(1), throttled("b"), absent("b")];
        assert_eq!(seen(Purpose::Read, &answers, true), 1);
    }
}
