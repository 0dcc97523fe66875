//! Reading groups in the order in which they were written.
//!
//! *Owns*: reading ahead, groups that lie across two reads.
//! *Does not own*: which group follows which.
//!
//! Invariants
//! 1. Memory is bounded: the chunks read ahead, one more, and one group.
//! 2. What is read together with something, or ahead of it, and never looked at changes nothing:
//!    its failure is not told.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use std::collections::VecDeque;
use std::ops::Range;

use tidewater_types::{mutant, sometimes};

use crate::buffer::AlignedBuf;
use crate::error::WalError;
use crate::format::Flaw;
use crate::format::group::GroupHeader;
use crate::io::{DiskIo, ReadUnderWay};
use crate::ring::Geometry;

/// Reads under way beside the one that is looked at.
const AHEAD: usize = 3;

/// Consecutive bytes of one segment.
struct Chunk {
    position: u64,
    num_bytes: u64,
    content: Content,
}

enum Content {
    UnderWay(ReadUnderWay),
    Read(AlignedBuf),
}

impl Chunk {
    fn end(&self) -> u64 {
        self.position + self.num_bytes
    }

    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Read(buf) => buf.as_slice(),
            Content::UnderWay(_) => &[],
        }
    }
}

/// Reads groups, one after the other.
pub(crate) struct Reader<'a> {
    pub(crate) io: &'a mut DiskIo,
    geometry: Geometry,
    chunk_bytes: u64,
    ahead: usize,
    /// Where groups go on behind the end of the segment that is read.
    goes_on_at: Option<u64>,
    chunks: VecDeque<Chunk>,
    spare: Vec<AlignedBuf>,
    /// A group that lies across chunks.
    joined: Vec<u8>,
    /// Something there cannot be read: no more is read at a time than is looked at.
    careful: Range<u64>,
}

impl<'a> Reader<'a> {
    /// A reader of `chunk_bytes` at a time.
    pub(crate) fn new(io: &'a mut DiskIo, geometry: Geometry, chunk_bytes: u64) -> Self {
        Self {
            io,
            geometry,
            chunk_bytes,
            ahead: 0,
            goes_on_at: None,
            chunks: VecDeque::new(),
            spare: Vec::new(),
            joined: Vec::new(),
            careful: 0..0,
        }
    }

    /// A reader that keeps the disk busy meanwhile.
    pub(crate) fn ahead(io: &'a mut DiskIo, geometry: Geometry, chunk_bytes: u64) -> Self {
        Self {
            ahead: AHEAD,
            ..Self::new(io, geometry, chunk_bytes)
        }
    }

    /// The segment that will follow this one, once that is known.
    pub(crate) fn goes_on_at(&mut self, position: Option<u64>) {
        self.goes_on_at = position;
    }

    /// The bytes of the group at `position`, not checked; the inner error says why there
    /// can be none.
    pub(crate) async fn group(&mut self, position: u64) -> Result<Result<&[u8], Flaw>, WalError> {
        let end = self.geometry.segment_end(position);
        let block = usize::try_from(self.geometry.block_bytes).expect("a block");
        if position + self.geometry.block_bytes > end {
            return Ok(Err(Flaw::Short));
        }
        let num_bytes = match GroupHeader::decode_length(self.view(position, block).await?) {
            Ok(num_bytes) => num_bytes.next_multiple_of(block),
            Err(flaw) => return Ok(Err(flaw)),
        };
        if position + num_bytes as u64 > end {
            return Ok(Err(Flaw::Short));
        }
        self.view(position, num_bytes).await.map(Ok)
    }

    /// The head of the group at `position`, unchecked, where its payload may be unreadable.
    pub(crate) async fn head(&mut self, position: u64) -> Result<&[u8], WalError> {
        let block = usize::try_from(self.geometry.block_bytes).expect("a block");
        self.view(position, block).await
    }

    /// `num_bytes` at `position`, inside one segment. What cannot be read is an error only if it is
    /// part of that, and not of what was read together with it.
    async fn view(&mut self, position: u64, num_bytes: usize) -> Result<&[u8], WalError> {
        let end = position + num_bytes as u64;
        let num_chunks = loop {
            let num_chunks = self.cover(position, end);
            match self.finish(num_chunks).await {
                Ok(()) => break num_chunks,
                Err((error, failed)) => {
                    // A second failure of the same piece is final, whatever else it covers.
                    let is_wanted =
                        (position <= failed.start && failed.end <= end) || self.careful == failed;
                    if is_wanted || mutant!(100) {
                        return Err(error);
                    }
                    sometimes!("wal: what could not be read was read in smaller pieces");
                    self.careful = failed;
                }
            }
        };
        let at = |position: u64, chunk: &Chunk| {
            usize::try_from(position - chunk.position).expect("inside the chunk")
        };
        if num_chunks == 1 {
            let chunk = &self.chunks[0];
            let start = at(position, chunk);
            return Ok(&chunk.bytes()[start..start + num_bytes]);
        }
        self.joined.clear();
        for chunk in self.chunks.iter().take(num_chunks) {
            let start = at(position.max(chunk.position), chunk);
            let stop = at(end.min(chunk.end()), chunk);
            self.joined.extend_from_slice(&chunk.bytes()[start..stop]);
        }
        Ok(&self.joined)
    }

    /// Sees to it that the first chunks hold `position..end`, or will; answers how many.
    fn cover(&mut self, position: u64, end: u64) -> usize {
        self.let_go_before(position);
        let (mut num_chunks, at) = self.run(position, end);
        if at < end {
            // What is behind the run was read ahead for another place.
            while self.chunks.len() > num_chunks
                && let Some(last) = self.chunks.pop_back()
            {
                self.let_go(last);
            }
            self.request(at, end - at);
            num_chunks += 1;
        }
        self.read_ahead();
        num_chunks
    }

    /// The chunks that follow each other from the one that holds `position` on, up to `end`: how
    /// many there are, and where they end.
    fn run(&self, position: u64, end: u64) -> (usize, u64) {
        let mut at = position;
        let mut num_chunks = 0;
        for chunk in &self.chunks {
            let follows = if num_chunks == 0 {
                (chunk.position..chunk.end()).contains(&position)
            } else {
                chunk.position == at
            };
            if !follows || at >= end {
                break;
            }
            at = chunk.end();
            num_chunks += 1;
        }
        (num_chunks, at)
    }

    fn let_go_before(&mut self, position: u64) {
        while let Some(first) = self.chunks.front()
            && !(first.position..first.end()).contains(&position)
        {
            let first = self.chunks.pop_front().expect("just seen");
            self.let_go(first);
        }
    }

    fn let_go(&mut self, chunk: Chunk) {
        match chunk.content {
            Content::UnderWay(read) => self.io.forget(read),
            Content::Read(buf) if self.spare.len() <= AHEAD => self.spare.push(buf),
            Content::Read(_) => {}
        }
    }

    /// Asks for a chunk at `position`, of at least `least` bytes.
    fn request(&mut self, position: u64, least: u64) {
        let most = self.geometry.segment_end(position) - position;
        let num_bytes = if self.careful.contains(&position) {
            least.max(self.geometry.block_bytes)
        } else {
            self.chunk_bytes.max(least).min(most)
        };
        let len = usize::try_from(num_bytes).expect("a read");
        let spare = self.spare.pop().filter(|buf| buf.capacity() == len);
        self.chunks.push_back(Chunk {
            position,
            num_bytes,
            content: Content::UnderWay(self.io.begin_read(position, len, spare)),
        });
    }

    /// Keeps reads under way, into the segment that follows too.
    fn read_ahead(&mut self) {
        while self.chunks.len() <= self.ahead
            && let Some(last) = self.chunks.back()
            && !self.careful.contains(&last.end())
        {
            let within = last.end() < self.geometry.segment_end(last.position);
            let next = match self.goes_on_at {
                _ if within => last.end(),
                Some(next)
                    if self.geometry.segment(next) != self.geometry.segment(last.position) =>
                {
                    next
                }
                _ => return,
            };
            if next + self.chunk_bytes > self.io.num_bytes() {
                return;
            }
            self.request(next, 0);
        }
    }

    /// Waits for the first chunks. If one cannot be read, it and those behind it are let go; the
    /// error has its place.
    async fn finish(&mut self, num_chunks: usize) -> Result<(), (WalError, Range<u64>)> {
        for place in 0..num_chunks {
            let Content::UnderWay(read) = &self.chunks[place].content else {
                continue;
            };
            match self.io.finish_read(*read).await {
                Ok(buf) => self.chunks[place].content = Content::Read(buf),
                Err(error) => {
                    let mut rest = self.chunks.split_off(place);
                    let failed = rest.pop_front().expect("just looked at");
                    rest.into_iter().for_each(|chunk| self.let_go(chunk));
                    return Err((error, failed.position..failed.end()));
                }
            }
        }
        Ok(())
    }
}
