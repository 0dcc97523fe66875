//! The connection behind the tools that ask a broker: one question, one answer, bounded time.
//!
//! *Owns*: connecting, the time-outs, the largest answer.
//! *Does not own*: the bytes of question and answer (`net`).
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "the client's socket")]

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use tidewater_types::ErrorKind;

use crate::net::{PrivateWireError, decode_private_response, encode_private_request};

const CONNECT: Duration = Duration::from_secs(3);
const SEND: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u32 = 64 << 20;
const CORRELATION_ID: i32 = 1;

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens, or cannot be reached.
    #[error(
        "no broker: {address}: expected a running broker, found {}",
        plain(cause)
    )]
    Connect { address: String, cause: io::Error },
    /// The connection ended or failed before the answer was there.
    #[error(
        "no answer: {address}: expected the answer of a Tidewater broker, found {}",
        plain(cause)
    )]
    Exchange { address: String, cause: io::Error },
    /// The answer's length cannot be right.
    #[error(
        "no answer: {address}: expected an answer of at most {ANSWER_BYTES_MAX} bytes, found a length of {found}"
    )]
    Length { address: String, found: u32 },
    /// The bytes are no answer.
    #[error("no answer: {address}: expected {cause}")]
    Answer {
        address: String,
        cause: PrivateWireError,
    },
}

impl AskError {
    /// What the caller does about it.
    #[allow(dead_code, reason = "the shape every error of the project has")]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::Exchange { .. } => ErrorKind::Retry,
            Self::Length { .. } | Self::Answer { .. } => ErrorKind::Invalid,
        }
    }
}

/// What the broker at `address` answers, within `patience`, to the private request `api_key`: JSON.
pub(crate) fn ask(
    address: &str,
    api_key: i16,
    body: &[u8],
    patience: Duration,
) -> Result<String, AskError> {
    let failed = |cause| AskError::Exchange {
        address: address.to_owned(),
        cause,
    };
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(SEND)).map_err(failed)?;
    stream
        .write_all(&encode_private_request(api_key, CORRELATION_ID, body))
        .map_err(failed)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let found = u32::from_be_bytes(length);
    if found > ANSWER_BYTES_MAX {
        let address = address.to_owned();
        return Err(AskError::Length { address, found });
    }
    let mut frame = Vec::new();
    stream
        .take(u64::from(found))
        .read_to_end(&mut frame)
        .map_err(failed)?;
    if u32::try_from(frame.len()) != Ok(found) {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    decode_private_response(CORRELATION_ID, frame.into()).map_err(|cause| {
        let address = address.to_owned();
        AskError::Answer { address, cause }
    })
}

fn connect(address: &str) -> Result<TcpStream, AskError> {
    let failed = |cause| AskError::Connect {
        address: address.to_owned(),
        cause,
    };
    let mut last = io::ErrorKind::NotFound.into();
    for candidate in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = cause,
        }
    }
    Err(failed(last))
}

/// An operating system's error in words, without its number.
fn plain(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the connection closed".to_owned()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => cause.to_string(),
    }
}
