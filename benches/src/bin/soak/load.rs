//! What producers and consumers do as long as the run lasts.
//!
//! *Owns*: which partitions they take in which order, and what they note.
//! *Does not own*: what is right (`proof`).
//!
//! *IO: driver*

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use tidewater_benches::{Client, Failure, batch};

use crate::Shared;
use crate::proof::{check, stamped};

const KIB: u64 = 1 << 10;
/// The error code that tells a client that it may send again; here it sends the next batch.
const KAFKA_STORAGE_ERROR: i16 = 56;

/// A batch on its way.
struct UnderWay {
    sent: i32,
    topic: u64,
    partition: i32,
    stamp: u64,
}

/// Keeps `in_flight` batches on the way, to partitions of its own in turn.
pub(crate) fn produce(shared: &Shared<'_>, number: u64) -> Result<(), Failure> {
    let options = shared.options;
    let records = 16;
    let template = match options.batch_bytes {
        Some(num_bytes) => batch(1, num_bytes),
        None => batch(records, (options.batch_kib * KIB) as usize / records),
    };
    let mut client = Client::connect(shared.address)?;
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut turn = number;
    while !shared.is_over() || !under_way.is_empty() {
        while !shared.is_over() && under_way.len() < options.in_flight {
            let (topic, partition) = (shared.topic(), (turn % options.partitions as u64) as i32);
            turn += options.producers;
            let stamp = shared.stamps.fetch_add(1, Ordering::Relaxed);
            let batch = stamped(&template, stamp);
            let sent = client.send_batch(&Shared::name(topic), partition, batch)?;
            under_way.push_back(UnderWay {
                sent,
                topic,
                partition,
                stamp,
            });
        }
        let Some(oldest) = under_way.pop_front() else {
            break;
        };
        match client.receive_offset(oldest.sent)? {
            (0, base) => {
                shared.note((oldest.topic, oldest.partition), base, oldest.stamp)?;
                let num_bytes = template.len() as u64;
                shared.produced.fetch_add(num_bytes, Ordering::Relaxed);
            }
            (KAFKA_STORAGE_ERROR, _) => {
                shared.slowed.fetch_add(1, Ordering::Relaxed);
            }
            // The topic was exchanged and deleted while the batch was on its way.
            (_, _) if oldest.topic != shared.topic() => {}
            (code, _) => return Err(format!("Produce: error code {code}").into()),
        }
    }
    Ok(())
}

/// Reads its partitions of one topic after the other, each from its beginning. So half of the
/// consumers follow the tail, and half read what is in objects by now.
pub(crate) fn consume(shared: &Shared<'_>, number: u64) -> Result<(), Failure> {
    let options = shared.options;
    let mut client = Client::connect(shared.address)?;
    let (mut topic, mut next) = (u64::MAX, Vec::new());
    while !shared.is_over() {
        let wanted = match number % 2 {
            0 => shared.topic(),
            _ => shared.topic().saturating_sub(1),
        };
        if wanted != topic {
            (topic, next) = (wanted, vec![0; options.partitions as usize]);
        }
        let mut brought = 0;
        for partition in 0..options.partitions {
            if partition as u64 % options.consumers != number && number.is_multiple_of(2) {
                continue;
            }
            let from: &mut i64 = &mut next[partition as usize];
            let Ok(records) = client.fetch_records(&Shared::name(topic), partition, *from) else {
                // Deleted meanwhile: a new connection, since an error ends the old one here.
                client = Client::connect(shared.address)?;
                break;
            };
            *from = check(&records, *from, |_, _| ())?;
            brought += records.len();
            if shared.is_over() {
                break;
            }
        }
        shared.consumed.fetch_add(brought as u64, Ordering::Relaxed);
        if brought == 0 {
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}
