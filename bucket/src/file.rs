//! Reading a part of a file.
//!
//! *Owns*: that it costs one copy, and that whoever else has work gets a core meanwhile.
//! *Does not own*: the file, the thread.
//!
//! *IO: driver*

use std::fs::File;
use std::io;

use bytes::Bytes;

use crate::schedule::{STEP_BYTES, behind_others, give_way};

/// The `num_bytes` bytes at `position`, into memory that nobody filled with zeros before and at once
/// if the system has them: of a file in the page cache each is a third of the work. Blocks.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before; what the file system says.
pub fn read_at(file: &File, position: u64, num_bytes: usize) -> io::Result<Bytes> {
    if num_bytes <= STEP_BYTES {
        return read(file, position, num_bytes);
    }
    // What is not in memory is asked of the disk all at once: in steps it would be read ahead step by step.
    let whole = std::num::NonZeroU64::new(num_bytes as u64);
    let _ = rustix::fs::fadvise(file, position, whole, rustix::fs::Advice::WillNeed);
    behind_others(num_bytes, || read(file, position, num_bytes))
}

/// In steps: a kernel that does not preempt itself copies all of one before another thread has the core.
fn read(file: &File, position: u64, num_bytes: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(num_bytes);
    while bytes.len() < num_bytes {
        let at = position + bytes.len() as u64;
        let step = STEP_BYTES.min(num_bytes - bytes.len());
        if !bytes.is_empty() {
            give_way();
        }
        let room = &mut bytes.spare_capacity_mut()[..step];
        match rustix::io::pread(file, room, at).map(|(filled, _)| filled.len()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            // SAFETY: the call filled as many bytes of the spare capacity, from its start on.
            Ok(filled) => unsafe { bytes.set_len(bytes.len() + filled) },
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::{STEP_BYTES, read_at};
    use std::io::{ErrorKind, Write};

    #[test]
    fn a_part_comes_whole_or_not_at_all() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        assert_eq!(read_at(&file, 1, 3).unwrap(), &b"bcd"[..]);
        assert_eq!(read_at(&file, 6, 0).unwrap(), &b""[..]);
        let kind = read_at(&file, 4, 3).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_part_of_many_steps_is_put_together() {
        let content: Vec<u8> = (0..3 * STEP_BYTES + 5).map(|i| (i / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        for num_bytes in [STEP_BYTES, STEP_BYTES + 1, 2 * STEP_BYTES, 3 * STEP_BYTES] {
            assert_eq!(
                read_at(&file, 3, num_bytes).unwrap(),
                &content[3..3 + num_bytes]
            );
        }
        let kind = read_at(&file, 6, 3 * STEP_BYTES).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::UnexpectedEof);
    }
}
