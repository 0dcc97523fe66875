//! What must come back: batches that are told apart, and those that were acknowledged.
//!
//! *Owns*: the stamp of a batch, the check of what a fetch brought, the comparison at the end.
//!
//! Invariants
//! 1. A batch's stamp is under its checksum, so what comes back whole is what was sent.
//! 2. What one fetch brings has no gap and goes on where it was asked to.
//!
//! *Format: Kafka's record batch, version 2* · *IO: driver*

use bytes::{Bytes, BytesMut};
use tidewater_benches::{Client, Failure};
use tidewater_types::crc32c;

use crate::Shared;

/// Where the fields of a batch lie, and how many bytes it has in front of what its length counts.
const LENGTH: usize = 8;
const OVERHEAD: usize = 12;
const CRC: usize = 17;
const LAST_OFFSET_DELTA: usize = 23;
const FIRST_TIMESTAMP: usize = 27;
const LAST_TIMESTAMP: usize = 35;
const HEADER: usize = 61;
/// Stamps are timestamps, in milliseconds, from here on.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The batch with another stamp.
pub(crate) fn stamped(template: &Bytes, stamp: u64) -> Bytes {
    let mut batch = BytesMut::from(&template[..]);
    for at in [FIRST_TIMESTAMP, LAST_TIMESTAMP] {
        batch[at..at + 8].copy_from_slice(&(EPOCH_MS + stamp).to_be_bytes());
    }
    let crc = crc32c(&[&batch[CRC + 4..]]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn int(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Tells `take` the base offset and the stamp of each whole batch of a fetch at `from`; the offset behind
/// the last one.
///
/// # Errors
/// A gap, or a batch that is not what was sent.
pub(crate) fn check(
    records: &[u8],
    from: i64,
    mut take: impl FnMut(i64, u64),
) -> Result<i64, Failure> {
    let (mut rest, mut next) = (records, from);
    while rest.len() >= HEADER {
        let num_bytes = OVERHEAD + int(rest, LENGTH) as usize;
        let Some(batch) = rest.get(..num_bytes) else {
            break;
        };
        rest = &rest[num_bytes..];
        let base = long(batch, 0).cast_signed();
        let end = base + i64::from(int(batch, LAST_OFFSET_DELTA)) + 1;
        // A fetch within a batch brings the whole of it.
        let fits = base == next || (next == from && base < from && from < end);
        if !fits {
            return Err(format!("offset {base} follows {next}").into());
        }
        if crc32c(&[&batch[CRC + 4..]]) != int(batch, CRC) {
            return Err(format!("the batch at {base} is damaged").into());
        }
        take(base, long(batch, FIRST_TIMESTAMP) - EPOCH_MS);
        next = end;
    }
    Ok(next)
}

/// Reads the topics that were not deleted from their start: how many batches there are, and how many
/// that were acknowledged are not where they were acknowledged.
///
/// # Errors
/// As those of [`check`]; a topic cannot be read to its end.
pub(crate) fn read_back(shared: &Shared<'_>, client: &mut Client) -> Result<(u64, u64), Failure> {
    let last = shared.topic();
    let (mut num_batches, mut num_missing) = (0, 0);
    for topic in last.saturating_sub(1)..=last {
        for partition in 0..shared.options.partitions {
            let mut owed = shared.noted(topic, partition);
            let name = Shared::name(topic);
            let end = client.latest_offset(&name, partition)?;
            let mut next = 0;
            while next < end {
                let records = client.fetch_records(&name, partition, next)?;
                let found = check(&records, next, |base, stamp| {
                    num_batches += 1;
                    if owed.get(&base) == Some(&stamp) {
                        owed.remove(&base);
                    }
                })?;
                if found == next {
                    return Err(format!("{name}/{partition} ends at {next} of {end}").into());
                }
                next = found;
            }
            num_missing += owed.len() as u64;
        }
    }
    Ok((num_batches, num_missing))
}

#[cfg(test)]
mod tests {
    use tidewater_benches::batch;

    use super::*;

    /// Two batches of three records, as a broker would give them.
    fn two() -> Vec<u8> {
        let template = batch(3, 10);
        let (one, mut two) = (stamped(&template, 7), stamped(&template, 9).to_vec());
        two[..8].copy_from_slice(&3_i64.to_be_bytes());
        [&one[..], &two].concat()
    }

    #[test]
    fn stamps_come_back_in_order_and_a_cut_batch_does_not_count() {
        let mut all = two();
        let mut found = Vec::new();
        let end = check(&all, 0, |base, stamp| found.push((base, stamp))).unwrap();
        assert_eq!((end, &found[..]), (6, &[(0, 7), (3, 9)][..]));
        assert_eq!(check(&all, 1, |_, _| ()).unwrap(), 6, "within the first");
        all.pop();
        assert_eq!(check(&all, 0, |_, _| ()).unwrap(), 3);
    }

    #[test]
    fn gaps_and_damage_are_found() {
        let all = two();
        let second = all.len() / 2;
        assert!(check(&all[second..], 0, |_, _| ()).is_err(), "a gap");
        assert!(check(&[&all[second..], &all].concat(), 3, |_, _| ()).is_err());
        for at in [CRC, FIRST_TIMESTAMP, HEADER + 5, second - 1] {
            let mut damaged = all.clone();
            damaged[at] ^= 1;
            assert!(check(&damaged, 0, |_, _| ()).is_err(), "byte {at}");
        }
    }
}
