//! Ends that do not fit their damage, each of which must be named.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_stream_store::StoreError;
use tidewater_types::{Lsn, WalId};
use tidewater_wal::WalError;

use super::{End, Harm, Opened, again, bad_sector, without_log};
use crate::check::Violation;

fn path() -> String {
    "wal".to_owned()
}

fn corrupt() -> Opened {
    Err(WalError::Corrupt {
        path: path(),
        position: 8192,
        lsn: Lsn(3),
        expected: "1".to_owned(),
        found: "2".to_owned(),
    })
}

fn slots() -> Opened {
    let (first, second) = ("checksum", "checksum");
    let path = path();
    Err(WalError::SuperblocksDamaged {
        path,
        first,
        second,
    })
}

fn missing() -> Opened {
    Err(WalError::Missing { path: path() })
}

fn other() -> Opened {
    let [expected, found] = [WalId([1; 16]), WalId([9; 16])];
    let path = path();
    Err(WalError::ForeignWal {
        path,
        expected,
        found,
    })
}

fn unread() -> Opened {
    Err(WalError::Io {
        operation: "read",
        path: path(),
        position: 0,
        cause: Arc::new(std::io::Error::other("EIO")),
    })
}

fn complaint<T: std::fmt::Debug>(result: Result<T, Violation>) -> String {
    let violation = result.unwrap_err();
    assert_eq!(violation.checker, "damage");
    violation.detail
}

fn after(harm: Harm, ended: Opened) -> Result<End, Violation> {
    super::ended(&harm, harm, &ended)
}

#[test]
fn altered_bytes_are_harmless_or_refused_as_corrupt() {
    assert_eq!(after(Harm::Altered, Ok(())), Ok(End::Opened));
    assert_eq!(after(Harm::Altered, corrupt()), Ok(End::Refused));
    assert_eq!(after(Harm::Altered, slots()), Ok(End::Refused));
    assert!(complaint(after(Harm::Altered, missing())).contains("Altered ended in: no"));
    assert!(complaint(after(Harm::Altered, unread())).contains("failed"));
    assert!(complaint(after(Harm::Altered, other())).contains("Altered"));
}

#[test]
fn a_log_that_nothing_happened_to_opens() {
    assert_eq!(after(Harm::Nothing, Ok(())), Ok(End::Opened));
    assert!(complaint(after(Harm::Nothing, corrupt())).contains("Nothing ended in"));
    assert!(complaint(after(Harm::Nothing, slots())).contains("both superblocks"));
    assert!(complaint(after(Harm::Nothing, unread())).contains("failed"));
}

#[test]
fn one_bad_superblock_of_two_is_no_reason_to_refuse() {
    assert_eq!(after(Harm::OneSlot, Ok(())), Ok(End::Opened));
    assert!(complaint(after(Harm::OneSlot, slots())).contains("both superblocks"));
    assert!(complaint(after(Harm::OneSlot, corrupt())).contains("damaged"));
    assert!(complaint(after(Harm::OneSlot, missing())).contains("OneSlot"));
}

#[test]
fn a_lost_part_that_proves_itself_is_missed() {
    assert_eq!(after(Harm::Lost, corrupt()), Ok(End::Refused));
    assert!(complaint(after(Harm::Lost, Ok(()))).contains("without a promised frame"));
    assert!(complaint(after(Harm::Lost, missing())).contains("Lost ended in"));
    assert!(complaint(after(Harm::Lost, other())).contains("Lost ended in"));
}

#[test]
fn a_log_that_is_gone_or_anothers_is_refused_by_that_name() {
    assert_eq!(after(Harm::Foreign, missing()), Ok(End::Refused));
    assert_eq!(after(Harm::Foreign, other()), Ok(End::Refused));
    assert!(complaint(after(Harm::Foreign, Ok(()))).contains("an open log"));
    assert!(complaint(after(Harm::Foreign, corrupt())).contains("damaged"));
    assert!(complaint(after(Harm::Foreign, unread())).contains("failed"));
}

#[test]
fn a_bad_sector_is_refused_where_it_hides_something_only() {
    let opened = |promised, ended| bad_sector(1, promised, &ended);
    assert_eq!(opened(false, Ok(())), Ok(End::Opened));
    assert_eq!(opened(true, unread()), Ok(End::Refused));
    assert_eq!(opened(true, corrupt()), Ok(End::Refused));
    assert!(complaint(opened(false, unread())).contains("promised: false"));
    assert!(complaint(opened(false, corrupt())).contains("promised: false"));
    assert!(complaint(opened(true, missing())).contains("promised: true"));
}

#[test]
fn what_was_refused_once_is_refused_again() {
    let again = |ended| again(&"BitRot", &corrupt().unwrap_err(), &ended);
    again(corrupt()).unwrap();
    assert!(complaint(again(Ok(()))).contains("an open log, after wal is damaged"));
    assert!(complaint(again(missing())).contains("no write-ahead log"));
    assert!(complaint(again(unread())).contains("failed"));
}

#[test]
fn a_store_without_its_log_does_not_open() {
    let opened = |opened: Opened| without_log(&opened.map_err(StoreError::from));
    opened(missing()).unwrap();
    opened(corrupt()).unwrap();
    opened(slots()).unwrap();
    assert!(complaint(opened(Ok(()))).contains("name opened"));
    assert!(complaint(opened(unread())).contains("was refused"));
    let closed = StoreError::Closed {
        cause: Arc::from("shut down"),
    };
    assert!(complaint(without_log::<()>(&Err(closed))).contains("was refused: "));
}
