//! Objects in parts: each part is a temporary file until the whole is put together.
//!
//! *Owns*: the requests of a multipart upload on files.
//! *Does not own*: which uploads are open (`parts` of the crate), naming and syncing (`tree`).
//!
//! Invariants
//! 1. A part's file goes when its upload ends, at the latest when the next process opens the
//!    directory: uploads do not outlive the process that began them.
//! 2. Bytes are copied from file to file by the kernel, where it can without reading them.
//! 3. A part is durable before its tag is told: what a failed write-back lost is never read again as if
//!    it were the part. The whole is synced, and as long as its parts, before it gets its name.
//!
//! *IO: driver*

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::staging::{self, PartFile};
use super::tree::{Tree, unapplied};
use crate::parts::{absent, refused};
use crate::port::{BucketError, MultipartId, Part, PartTag};

impl Tree {
    pub(super) fn start_parts(&self, key: &str) -> Result<MultipartId, BucketError> {
        self.locate(key)?;
        Ok(self.uploads.start(key))
    }

    pub(super) fn put_part(&self, part: Part<'_>, body: &[Bytes]) -> Result<PartTag, BucketError> {
        let fill = |file: &File| staging::write_all(file, body);
        self.take_part(part, fill)
    }

    pub(super) fn copy_part(
        &self,
        part: Part<'_>,
        source: &str,
        range: Range<u64>,
    ) -> Result<PartTag, BucketError> {
        let (mut from, size) = self.find(source)?;
        let Range { start, end } = range;
        if start >= end {
            let cause = format!("range {start}..{end} of a copy is empty");
            return Err(refused(part.key, cause));
        }
        if end > size {
            return Err(BucketError::Short {
                key: source.to_owned(),
                size,
                start,
                end,
            });
        }
        let fill = move |mut file: &File| {
            from.seek(SeekFrom::Start(start))?;
            let copied = io::copy(&mut from.take(end - start), &mut file)?;
            if copied == end - start {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        self.take_part(part, fill)
    }

    fn take_part(
        &self,
        part: Part<'_>,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<PartTag, BucketError> {
        self.check_sync(part.key)?;
        self.uploads.find(part.key, part.upload)?;
        let staged = self.staging.write(fill);
        let staged = staged.map_err(|e| unapplied(part.key, "write a part of", &e))?;
        let name = staged.path().file_name().unwrap_or_default();
        let tag = name.to_string_lossy().into_owned();
        let file =
            PartFile::new(staged).map_err(|e| unapplied(part.key, "look at a part of", &e))?;
        self.uploads.put(part, tag, file)
    }

    pub(super) fn complete_parts(
        &self,
        key: &str,
        id: &MultipartId,
        parts: &[PartTag],
    ) -> Result<(), BucketError> {
        let upload = self.uploads.find(key, id)?;
        // Held all along: of two completions at once the second finds no upload.
        let upload = upload.lock();
        if !self.uploads.is_open(id) {
            return Err(absent(key));
        }
        let bodies = upload.bodies(parts)?;
        self.create_with(key, |whole| {
            bodies.iter().try_for_each(|part| part.append_to(whole))
        })?;
        self.uploads.close(id);
        Ok(())
    }

    pub(super) fn abort_parts(&self, key: &str, id: &MultipartId) -> Result<(), BucketError> {
        self.uploads.end(key, id)
    }
}
