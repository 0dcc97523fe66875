//! Which findings of the check of a whole bucket are violations.
//!
//! *Owns*: that. *Does not own*: the check, which is the engine's own and has its own tests.
//!
//! *IO: none*

use std::fmt::Display;

use tidewater_s3stream::{Finding, FindingKind, Severity};

use super::Violation;

const CHECKER: &str = "fsck";

/// The check of a bucket without faults ended so; `all_swept` if no orphan may be left.
///
/// # Errors
/// It was refused, found an error, or an orphan.
pub(crate) fn ended<E: Display>(
    findings: Result<&[Finding], E>,
    all_swept: bool,
) -> Result<(), Violation> {
    let findings =
        findings.map_err(|error| Violation::new(CHECKER, format!("refused: {error}")))?;
    let is_wrong = |finding: &&Finding| {
        let is_orphan = finding.what == FindingKind::Orphan;
        finding.severity == Severity::Error || all_swept && is_orphan
    };
    match findings.iter().find(is_wrong) {
        None => Ok(()),
        Some(finding) => Err(Violation::new(CHECKER, format!("{finding:?}"))),
    }
}

/// Whether a finding counts where the objects that streams name were never written: all do, but for the
/// lack of such an object.
pub(crate) fn is_of_metadata(finding: &Finding) -> bool {
    let names_both = finding.stream.is_some() && finding.object.is_some();
    !(finding.what == FindingKind::Missing && names_both)
}

#[cfg(test)]
mod tests {
    use super::{ended, is_of_metadata};
    use tidewater_s3stream::{Finding, FindingKind, Severity};
    use tidewater_types::{Offset, OffsetRange, StreamId};

    fn finding(severity: Severity, what: FindingKind) -> Finding {
        Finding::new(severity, what, "somewhere".to_owned())
    }

    fn is_seen(findings: Result<&[Finding], &str>, all_swept: bool) -> bool {
        let ended = ended(findings, all_swept);
        ended.is_err_and(|violation| violation.checker == "fsck")
    }

    fn orphan() -> Finding {
        finding(Severity::Warning, FindingKind::Orphan)
    }

    #[test]
    fn no_finding_and_orphans_that_may_wait_pass() {
        assert!(!is_seen(Ok(&[]), true));
        assert!(!is_seen(Ok(&[orphan()]), false));
    }

    #[test]
    fn each_kind_of_error_is_seen_behind_others() {
        for what in [
            FindingKind::Hole,
            FindingKind::Overlap,
            FindingKind::Checksum,
            FindingKind::Missing,
            FindingKind::Format,
        ] {
            let findings = [orphan(), finding(Severity::Error, what)];
            assert!(is_seen(Ok(&findings), false), "{what:?}");
        }
    }

    #[test]
    fn an_orphan_that_should_be_swept_is_seen() {
        assert!(is_seen(Ok(&[orphan()]), true));
    }

    #[test]
    fn of_metadata_alone_everything_is_seen_but_objects_that_streams_lack() {
        let range = OffsetRange::new(Offset(2), Offset(4)).unwrap();
        let of_stream = |what| finding(Severity::Error, what).range(StreamId(1), range);
        let lacks = of_stream(FindingKind::Missing).object("data/1".to_owned());
        assert!(!is_of_metadata(&lacks));
        for what in [
            FindingKind::Hole,
            FindingKind::Overlap,
            FindingKind::Checksum,
            FindingKind::Format,
        ] {
            assert!(is_of_metadata(&of_stream(what)), "{what:?}");
            let at_object = of_stream(what).object("data/1".to_owned());
            assert!(is_of_metadata(&at_object), "{what:?}");
        }
        assert!(is_of_metadata(&of_stream(FindingKind::Missing)));
        let log_entry = finding(Severity::Error, FindingKind::Missing).object("meta/7".to_owned());
        assert!(is_of_metadata(&log_entry));
    }

    #[test]
    fn a_refusal_is_seen() {
        assert!(is_seen(Err("damaged"), false));
        assert!(is_seen(Err("damaged"), true));
    }
}
