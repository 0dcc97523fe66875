//! Where marks go: into the write log itself, or into a file.
//!
//! *Owns*: the message to a device-mapper target. The structure is `struct dm_ioctl` of
//! include/uapi/linux/dm-ioctl.h, interface version 4.
//! *Does not own*: what a mark says (marks.rs).
//!
//! Invariants
//! 1. When `mark` returns, the mark has its place: nothing that completes later stands in front.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use parking_lot::Mutex;

const CONTROL: &str = "/dev/mapper/control";
/// `_IOWR(0xfd, 14, struct dm_ioctl)`.
const DM_TARGET_MSG: libc::c_ulong = 0xc138_fd0e;
/// Bytes of `struct dm_ioctl`; the message for the target follows it.
const HEADER_BYTES: usize = 312;
const NAME_AT: usize = 48;
const NAME_BYTES: usize = 128;
/// A message: the sector whose target is meant, and the text.
const BUFFER_BYTES: usize = 1024;
const TEXT_AT: usize = HEADER_BYTES + 8;

/// Takes marks.
pub(super) enum Marker {
    /// The dm-log-writes device of this name.
    Target { control: File, name: String },
    /// A file, a line a mark.
    File(Mutex<File>),
}

/// The buffer of one request, aligned as the kernel's structure is.
#[repr(C, align(8))]
struct Request([u8; BUFFER_BYTES]);

impl Marker {
    /// Marks in the log of the device-mapper device `name`.
    pub(super) fn target(name: &str) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
        let name = name.to_owned();
        Ok(Self::Target { control, name })
    }

    /// Marks in the file at `path`, behind those that are there.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::File(Mutex::new(file)))
    }

    /// Writes one mark.
    pub(super) fn mark(&self, text: &str) -> io::Result<()> {
        match self {
            Self::File(file) => file.lock().write_all(format!("{text}\n").as_bytes()),
            Self::Target { control, name } => {
                let mut request = request(name, &format!("mark {text}"))?;
                // SAFETY: the kernel reads and writes at most the `data_size` bytes that the
                // structure states, which are the buffer's own, and keeps no pointer.
                let answer = unsafe {
                    libc::ioctl(
                        control.as_raw_fd(),
                        DM_TARGET_MSG,
                        request.0.as_mut_ptr().cast::<libc::c_void>(),
                    )
                };
                if answer < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            }
        }
    }
}

fn request(name: &str, message: &str) -> io::Result<Request> {
    let mut request = Request([0; BUFFER_BYTES]);
    if name.len() >= NAME_BYTES || TEXT_AT + message.len() >= BUFFER_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut put = |at: usize, bytes: &[u8]| request.0[at..at + bytes.len()].copy_from_slice(bytes);
    for (index, number) in [4u32, 0, 0, BUFFER_BYTES as u32, HEADER_BYTES as u32]
        .into_iter()
        .enumerate()
    {
        // version[3], data_size, data_start.
        put(4 * index, &number.to_ne_bytes());
    }
    put(NAME_AT, name.as_bytes());
    put(TEXT_AT, message.as_bytes());
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, NAME_AT, TEXT_AT, request};

    #[test]
    fn a_request_has_the_kernels_layout() {
        let bytes = request("log", "mark a1").unwrap().0;
        assert_eq!(bytes[0], 4, "interface version");
        assert_eq!(u32::from_ne_bytes(bytes[16..20].try_into().unwrap()), 312);
        assert_eq!(&bytes[NAME_AT..NAME_AT + 4], b"log\0");
        assert_eq!(bytes[HEADER_BYTES..TEXT_AT], [0; 8], "sector 0");
        assert_eq!(&bytes[TEXT_AT..TEXT_AT + 8], b"mark a1\0");
        assert!(request(&"x".repeat(128), "mark").is_err());
        assert!(request("log", &"x".repeat(800)).is_err());
    }
}
