//! A copy-on-write image of a device: forks cost a list of pointers.
//!
//! *Owns*: blocks of 4 KiB, shared until written; bytes never written read as zero.
//! *Does not own*: which image is durable and which is only a cache.
//!
//! *IO: none*

use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;
type Block = [u8; BLOCK_BYTES];

/// The bytes of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    blocks: Vec<Option<Arc<Block>>>,
    num_bytes: u64,
}

/// The block, the place in it and the number of bytes of each part of a range.
fn parts(position: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let position = usize::try_from(position).expect("simulated devices are small");
    let end = position + len;
    let mut at = position;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let place = at % BLOCK_BYTES;
            let take = (BLOCK_BYTES - place).min(end - at);
            let part = (at / BLOCK_BYTES, place, take);
            at += take;
            part
        })
    })
}

impl Image {
    /// Bytes the device has.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    /// Writes `data`, growing the device if it ends beyond it.
    pub(crate) fn write(&mut self, position: u64, data: &[u8]) {
        self.num_bytes = self.num_bytes.max(position + data.len() as u64);
        let mut from = 0;
        for (block, place, take) in parts(position, data.len()) {
            if block >= self.blocks.len() {
                self.blocks.resize(block + 1, None);
            }
            let bytes = &data[from..from + take];
            from += take;
            let slot = &mut self.blocks[block];
            if let Some(shared) = slot {
                Arc::make_mut(shared)[place..place + take].copy_from_slice(bytes);
            } else if bytes.iter().any(|byte| *byte != 0) {
                let mut fresh = [0; BLOCK_BYTES];
                fresh[place..place + take].copy_from_slice(bytes);
                *slot = Some(Arc::new(fresh));
            }
        }
    }

    /// Reads what there is of `into.len()` bytes; the number read.
    pub(crate) fn read(&self, position: u64, into: &mut [u8]) -> usize {
        let there = self
            .num_bytes
            .saturating_sub(position)
            .min(into.len() as u64);
        let there = usize::try_from(there).expect("at most the buffer");
        let mut to = 0;
        for (block, place, take) in parts(position, there) {
            let target = &mut into[to..to + take];
            to += take;
            match self.blocks.get(block).and_then(Option::as_ref) {
                Some(bytes) => target.copy_from_slice(&bytes[place..place + take]),
                None => target.fill(0),
            }
        }
        there
    }

    /// A copy of the bytes in `position..position + len`, shorter at the end of the device.
    pub(crate) fn bytes(&self, position: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let there = self.read(position, &mut bytes);
        bytes.truncate(there);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn a_fork_keeps_its_bytes_when_the_original_is_written() {
        let mut image = Image::default();
        image.write(4000, &[7; 200]);
        let fork = image.clone();
        image.write(4090, &[9; 20]);
        assert_eq!(fork.bytes(4000, 200), vec![7; 200]);
        assert_eq!(
            image.bytes(4085, 30),
            [vec![7; 5], vec![9; 20], vec![7; 5]].concat()
        );
        assert_eq!(image.num_bytes(), 4200);
        assert_eq!(image.bytes(4199, 10), vec![7]);
    }

    #[test]
    fn zeros_take_no_room_and_read_as_zeros() {
        let mut image = Image::default();
        image.write(0, &[0; 65536]);
        assert_eq!(image.num_bytes(), 65536);
        assert!(image.blocks.iter().all(Option::is_none));
        assert_eq!(image.bytes(100, 3), vec![0; 3]);
    }
}
