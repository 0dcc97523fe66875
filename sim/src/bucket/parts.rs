//! Objects in parts in the simulated store.
//!
//! *Owns*: the uploads that are under way, and what the store answers to requests on them.
//! *Does not own*: what the network does to a request.
//!
//! Invariants
//! 1. An upload becomes an object at most once, however often its completion arrives, and
//!    answers to a repeated one as this or that real store does.
//! 2. A store that does not know the condition replaces what has the key.
//!
//! *IO: none*

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewater_bucket::{BucketError, MultipartLimits, PartTag};

use crate::rng::Rng;

/// Small, so that small objects have many parts.
pub(super) const LIMITS: MultipartLimits = MultipartLimits {
    part_bytes_min: 64,
    part_bytes_max: 1 << 30,
    parts_max: 10_000,
};

/// An upload, also after its end.
struct Upload {
    key: String,
    parts: BTreeMap<u32, (String, Bytes)>,
    stage: Stage,
    /// What a repeated completion is told: 0 = done, 1 = exists, 2 = absent.
    again: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Completed,
    Aborted,
}

/// All uploads there ever were.
#[derive(Default)]
pub(super) struct Uploads {
    all: BTreeMap<String, Upload>,
}

fn absent(key: &str) -> BucketError {
    BucketError::Absent {
        key: key.to_owned(),
    }
}

pub(super) fn refused(key: &str, cause: &str) -> BucketError {
    BucketError::Refused {
        key: key.to_owned(),
        cause: cause.to_owned(),
    }
}

impl Uploads {
    pub(super) fn start(&mut self, key: &str, again: u64) -> String {
        let id = format!("upload-{}", self.all.len());
        let upload = Upload {
            key: key.to_owned(),
            parts: BTreeMap::new(),
            stage: Stage::Open,
            again,
        };
        self.all.insert(id.clone(), upload);
        id
    }

    pub(super) fn put_part(
        &mut self,
        key: &str,
        id: &str,
        number: u32,
        body: Bytes,
        nonce: u64,
    ) -> Result<PartTag, BucketError> {
        let tag = format!("{number}-{nonce:016x}");
        let upload = self.open_upload(key, id)?;
        if !(1..=LIMITS.parts_max).contains(&number) {
            return Err(refused(key, "no part can have this number"));
        }
        upload.parts.insert(number, (tag.clone(), body));
        Ok(PartTag { number, tag })
    }

    /// A store that `replaces` does not know the condition.
    pub(super) fn complete(
        &mut self,
        objects: &mut BTreeMap<String, Bytes>,
        replaces: bool,
        key: &str,
        id: &str,
        named: &[PartTag],
    ) -> Result<(), BucketError> {
        let upload = self.all.get(id).filter(|upload| upload.key == key);
        let upload = upload.ok_or_else(|| absent(key))?;
        match (upload.stage, upload.again) {
            (Stage::Open, _) => {}
            (Stage::Completed, 0) if objects.contains_key(key) => return Ok(()),
            (Stage::Completed, 1) if objects.contains_key(key) => {
                return Err(BucketError::Exists {
                    key: key.to_owned(),
                });
            }
            _ => return Err(absent(key)),
        }
        if named.is_empty() || !named.is_sorted_by(|a, b| a.number < b.number) {
            return Err(refused(key, "parts are not in ascending order"));
        }
        let mut whole = Vec::new();
        for (at, wanted) in named.iter().enumerate() {
            let Some((_, body)) =
                (upload.parts.get(&wanted.number)).filter(|(tag, _)| *tag == wanted.tag)
            else {
                return Err(refused(key, "a part is not the one named"));
            };
            let is_last = at + 1 == named.len();
            if !is_last && (body.len() as u64) < LIMITS.part_bytes_min {
                return Err(refused(key, "a part is too small"));
            }
            whole.extend_from_slice(body);
        }
        if objects.contains_key(key) && !replaces {
            return Err(BucketError::Exists {
                key: key.to_owned(),
            });
        }
        objects.insert(key.to_owned(), Bytes::from(whole));
        let upload = self.all.get_mut(id).expect("found above");
        upload.stage = Stage::Completed;
        upload.parts.clear();
        Ok(())
    }

    /// Whether parts but for the last one differ in size.
    pub(super) fn are_unequal(&self, id: &str, named: &[PartTag]) -> bool {
        let size = |tag: &PartTag| {
            let part = self.all.get(id)?.parts.get(&tag.number)?;
            Some(part.1.len())
        };
        let sizes: Vec<_> = named.iter().map(size).collect();
        let (whole, last) = sizes.split_at(sizes.len().saturating_sub(1));
        let first = whole.first().copied().flatten();
        whole.iter().any(|size| *size != first)
            || last.iter().any(|last| first.is_some() && *last > first)
    }

    pub(super) fn abort(&mut self, key: &str, id: &str) -> Result<(), BucketError> {
        let upload = self.open_upload(key, id)?;
        upload.stage = Stage::Aborted;
        upload.parts.clear();
        Ok(())
    }

    /// Whether the store has let go of the upload that is to be completed now, which it does in
    /// `rate` of 1,000 cases.
    pub(super) fn forgets(&mut self, key: &str, id: &str, rate: u32, rng: &mut Rng) -> bool {
        rate > 0 && rng.chance(rate) && self.abort(key, id).is_ok()
    }

    fn open_upload(&mut self, key: &str, id: &str) -> Result<&mut Upload, BucketError> {
        self.all
            .get_mut(id)
            .filter(|upload| upload.key == key && upload.stage == Stage::Open)
            .ok_or_else(|| absent(key))
    }
}

/// The payloads in an object, as a line of the trace names them.
pub(super) fn held(bytes: &Bytes) -> String {
    crate::check::values_word(&crate::check::values_in(bytes))
}
