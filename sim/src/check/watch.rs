//! A watcher is told what changed, in the order of the log.
//!
//! *Owns*: the verdict on what one call of a watch answered behind an own change.
//! *Does not own*: what is watched.
//!
//! *IO: none*

use tidewater_s3stream::Watched;

use super::Violation;

/// Behind the change `id` of the keys `of`, a watcher of them was told of `changes`.
///
/// # Errors
/// A key is missing there, or the changes are out of order.
pub(crate) fn told(id: u64, of: &[String], changes: &[(u64, Watched)]) -> Result<(), Violation> {
    let is_told = |key: &String| {
        let is = |what: &Watched| *what == Watched::All || *what == Watched::Key(key.clone());
        changes.iter().any(|(_, what)| is(what))
    };
    let in_order = changes.is_sorted_by_key(|(seq, _)| *seq);
    if in_order && of.iter().all(is_told) {
        return Ok(());
    }
    let detail = format!("{id} in {of:?} was told as {changes:?}");
    Err(Violation::new("watch", detail))
}

#[cfg(test)]
mod tests {
    use super::told;
    use tidewater_s3stream::Watched;

    fn key(name: &str) -> Watched {
        Watched::Key(name.to_owned())
    }

    fn verdict(changes: &[(u64, Watched)]) -> bool {
        let of = ["list/0".to_owned(), "list/1".to_owned()];
        let told = told(7, &of, changes);
        told.is_err_and(|violation| violation.checker == "watch")
    }

    #[test]
    fn all_keys_in_order_or_everything_at_once_pass() {
        assert!(!verdict(&[(4, key("list/0")), (4, key("list/1"))]));
        assert!(!verdict(&[
            (2, key("list/2")),
            (4, key("list/1")),
            (4, key("list/0"))
        ]));
        assert!(!verdict(&[(9, Watched::All)]));
    }

    #[test]
    fn a_watcher_that_is_told_nothing_is_seen() {
        assert!(verdict(&[]));
        assert!(verdict(&[(4, key("list/2"))]));
    }

    #[test]
    fn half_of_a_transaction_is_seen() {
        assert!(verdict(&[(4, key("list/0"))]));
        assert!(verdict(&[(4, key("list/0")), (5, key("list/0"))]));
    }

    #[test]
    fn changes_out_of_order_are_seen() {
        assert!(verdict(&[(5, key("list/0")), (4, key("list/1"))]));
        assert!(verdict(&[(9, Watched::All), (8, Watched::All)]));
    }

    #[test]
    fn a_prefix_is_no_change() {
        assert!(verdict(&[(4, Watched::Keys("list/".to_owned()))]));
    }
}
