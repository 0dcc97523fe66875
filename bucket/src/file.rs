//! Reading a part of a file.
//!
//! *Owns*: that it costs one copy. *Does not own*: the file, the thread.
//!
//! *IO: driver*

use std::fs::File;
use std::io;

use bytes::Bytes;

/// The `num_bytes` bytes at `position`, into memory that nobody filled with zeros before and at once
/// if the system has them: of a file in the page cache each is a third of the work. Blocks.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before; what the file system says.
pub fn read_at(file: &File, position: u64, num_bytes: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(num_bytes);
    while bytes.len() < num_bytes {
        let at = position + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(num_bytes);
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::read_at;
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
}
