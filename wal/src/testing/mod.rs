//! What several tests share: the conformance suite, a model disk, a small executor,
//! the reader of vectors.
//!
//! *IO: reads docs/formats/vectors*

pub(crate) mod env;
pub(crate) mod lives;
pub(crate) mod model;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::{Env, Lsn};

use crate::error::WalError;
use crate::port::{Frame, Wal};

fn vector_path(name: &str) -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "docs",
        "formats",
        "vectors",
        name,
    ]
    .iter()
    .collect()
}

/// Hex with `#` comments; `*N` repeats the byte before it N times more.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(vector_path(name)).unwrap();
    let mut bytes = Vec::new();
    for token in text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::split_whitespace)
    {
        match token.strip_prefix('*') {
            Some(count) => {
                let last = *bytes.last().unwrap();
                bytes.resize(bytes.len() + count.parse::<usize>().unwrap(), last);
            }
            None => {
                for pair in token.as_bytes().chunks(2) {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
                }
            }
        }
    }
    bytes
}

/// The bytes of frame `number`: like no other frame's.
pub(crate) fn frame_bytes(number: u64, num_bytes: usize) -> Bytes {
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..num_bytes)
        .map(|i| (seed >> (8 * (i % 8))) as u8 ^ (i / 8) as u8)
        .collect()
}

async fn append(wal: &dyn Wal, head: &[u8], body: Bytes) -> Lsn {
    let frame = Frame::new(head, body);
    let permit = wal.reserve(frame.num_bytes()).await.unwrap();
    wal.append(permit, frame).unwrap().await.unwrap()
}

/// What every kind of WAL must do. Takes an empty one and closes it.
pub(crate) async fn conformance(wal: Arc<dyn Wal>, env: Arc<dyn Env>) {
    order_and_content(&*wal).await;
    permits(&*wal).await;
    trims(&*wal).await;
    closing(&*wal, &*env).await;
}

async fn order_and_content(wal: &dyn Wal) {
    let first = append(wal, b"head", frame_bytes(1, 100)).await;
    let second = append(wal, b"", frame_bytes(2, 0)).await;
    assert_eq!(
        second.0,
        first.0 + 4 + 104,
        "an LSN counts frames and their length prefixes"
    );
    let mut whole = b"head".to_vec();
    whole.extend_from_slice(&frame_bytes(1, 100));
    assert_eq!(wal.read(first).await.unwrap(), whole);
    assert_eq!(wal.read(second).await.unwrap(), Bytes::new());

    // LSNs ascend in the order of the appends, and acknowledgements come in that order.
    let mut appends = Vec::new();
    for n in 0..50u64 {
        let body = frame_bytes(n, 37 * n as usize);
        let permit = wal.reserve(body.len()).await.unwrap();
        appends.push(wal.append(permit, body.into()).unwrap());
    }
    assert!(appends.windows(2).all(|two| two[0].lsn() < two[1].lsn()));
    let last = appends.pop().unwrap();
    let lsn = last.await.unwrap();
    assert!(wal.watermarks().durable > lsn);
    for (n, append) in appends.into_iter().enumerate() {
        let lsn = append.await.unwrap();
        assert_eq!(
            wal.read(lsn).await.unwrap(),
            frame_bytes(n as u64, 37 * n),
            "frame {n}"
        );
    }
    assert_eq!(wal.counters().appends, 52);

    // Dropping the future does not take the append back.
    let permit = wal.try_reserve(10).unwrap();
    drop(wal.append(permit, frame_bytes(77, 10).into()).unwrap());
    let after = append(wal, b"", frame_bytes(78, 1)).await;
    assert_eq!(
        wal.read(Lsn(after.0 - 14)).await.unwrap(),
        frame_bytes(77, 10)
    );
}

async fn permits(wal: &dyn Wal) {
    // A permit not used gives its room back; one larger than the frame is fine.
    for _ in 0..2000 {
        drop(wal.try_reserve(1000).unwrap());
    }
    let permit = wal.try_reserve(1000).unwrap();
    wal.append(permit, frame_bytes(79, 1).into())
        .unwrap()
        .await
        .unwrap();
    assert!(matches!(
        wal.try_reserve(1 << 40),
        Err(WalError::FrameTooLarge { .. })
    ));
}

async fn trims(wal: &dyn Wal) {
    let before = append(wal, b"", frame_bytes(90, 3)).await;
    let after = append(wal, b"", frame_bytes(78, 1)).await;
    assert!(matches!(
        wal.read(Lsn(after.0 + 1)).await,
        Err(WalError::NoFrame { .. })
    ));
    assert!(matches!(
        wal.read(Lsn(1 << 60)).await,
        Err(WalError::NoFrame { .. })
    ));
    wal.trim(after);
    assert_eq!(wal.watermarks().trimmed, after);
    assert!(matches!(
        wal.read(before).await,
        Err(WalError::Trimmed { .. })
    ));
    assert_eq!(wal.read(after).await.unwrap(), frame_bytes(78, 1));
    wal.trim(before);
    assert_eq!(wal.watermarks().trimmed, after, "a trim never goes back");
}

async fn closing(wal: &dyn Wal, env: &dyn Env) {
    let permit = wal.reserve(5).await.unwrap();
    let pending = wal.append(permit, frame_bytes(80, 5).into()).unwrap();
    let unused = wal.reserve(5).await.unwrap();
    wal.close().await.unwrap();
    assert_eq!(
        pending.await.map(|_| ()).map_err(|error| error.to_string()),
        Ok(())
    );
    assert!(matches!(
        wal.append(unused, frame_bytes(81, 5).into()),
        Err(WalError::Closed)
    ));
    assert!(matches!(wal.reserve(5).await, Err(WalError::Closed)));
    let marks = wal.watermarks();
    assert_eq!(
        (marks.durable, marks.submitted),
        (marks.accepted, marks.accepted)
    );
    assert!(env.now() >= tidewater_types::Instant(0));
}
