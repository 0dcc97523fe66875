//! `tidewater stats`: asks a running broker for its counters and prints them.
//!
//! *Owns*: finding the broker, the question, the table.
//! *Does not own*: the counters; the wire form (`net`).
//!
//! *IO: driver* (`driver.rs`)

mod driver;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Code, Exit};
use crate::net::STATS_API_KEY;
use crate::ready;

pub(crate) use driver::ask;

/// How long the counters may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Where the broker is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `HOST:PORT`.
    Address(String),
    /// The folder in which a running broker keeps its address.
    DataDir(PathBuf),
    /// This folder if a broker wrote its address there, else this `HOST:PORT`.
    Either(PathBuf, String),
}

/// The counters of the broker at `target`, as one line of JSON or as a table.
///
/// # Errors
/// Code 3 if no broker answers there.
pub(crate) fn run(target: &Target, json: bool) -> Result<String, Exit> {
    let address = address(target)?;
    let text = ask(&address, STATS_API_KEY, &[], ANSWER)
        .map_err(|error| Exit::because(Code::Environment, error))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|cause| {
        let place = format!("statistics of {address}");
        Exit::new(Code::Environment, "no statistics", place, "JSON", cause)
    })?;
    Ok(if json {
        format!("{value}\n")
    } else {
        table::render(&value)
    })
}

fn address(target: &Target) -> Result<String, Exit> {
    let kept = |dir: &PathBuf| ready::read(&dir.join(ready::BROKER_FILE)).map(|facts| facts.listen);
    let known = match target {
        Target::Address(address) => return Ok(address.clone()),
        Target::DataDir(dir) => kept(dir),
        Target::Either(dir, address) => match kept(dir) {
            Err(ready::ReadyError::Absent { .. }) => return Ok(address.clone()),
            known => known,
        },
    };
    known.map_err(|error| Exit::because(Code::Environment, error))
}

#[cfg(test)]
mod tests {
    use super::{Target, run};
    use crate::exit::Code;
    use crate::net::encode_private_response;
    use crate::ready::{BROKER_FILE, Facts, ReadyFile};
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};
    use std::thread::JoinHandle;

    /// A peer that takes one connection, reads a request and answers with `answer`.
    fn peer(answer: Vec<u8>) -> (String, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4 + 8 + 2 + 15];
            stream.read_exact(&mut request).unwrap();
            // The client may hang up at the first bytes it does not like.
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Write);
            request
        });
        (address, thread)
    }

    fn broker(json: &str) -> (String, JoinHandle<Vec<u8>>) {
        let body = encode_private_response(1, json.to_owned()).concat();
        let mut answer = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        answer.extend(body);
        peer(answer)
    }

    #[test]
    fn the_answer_is_printed_as_json_or_as_a_table() {
        let (address, thread) = broker("{\"wal_appends\": 7}");
        let printed = run(&Target::Address(address), true).unwrap();
        assert_eq!(printed, "{\"wal_appends\":7}\n");
        assert_eq!(&thread.join().unwrap()[4..8], [0x4e, 0x20, 0, 0]);
        let (address, _thread) = broker("{\"wal_appends\": 7}");
        assert_eq!(
            run(&Target::Address(address), false).unwrap(),
            "wal_appends  7\n"
        );
    }

    #[test]
    fn the_address_is_found_in_the_data_directory() {
        let (listen, _thread) = broker("{}");
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts {
            pid: 1,
            listen,
            node_id: 1,
            cluster_id: String::new(),
            wal: String::new(),
            bucket: String::new(),
            start_ms: 0,
        };
        ReadyFile::write(&folder.path().join(BROKER_FILE), &facts).unwrap();
        run(&Target::DataDir(folder.path().to_owned()), true).unwrap();
        let (address, _thread) = broker("{}");
        let empty = folder.path().join("empty");
        let error = run(&Target::DataDir(empty.clone()), true).unwrap_err();
        assert_eq!(error.code, Code::Environment);
        assert!(error.to_string().contains("empty/broker.json"), "{error}");
        run(&Target::Either(empty, address), true).unwrap();
    }

    #[test]
    fn whoever_is_no_broker_is_named_with_what_it_did() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let mut wrong = vec![(free, "connection refused")];
        for (answer, found) in [
            (vec![], "connection closed"),
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "1213486160"),
            (vec![0, 0, 0, 9, 1], "connection closed"),
            (
                vec![0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 1, b'1'],
                "correlation id",
            ),
            (vec![0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, b'{'], "EOF"),
        ] {
            wrong.push((peer(answer).0, found));
        }
        for (address, found) in wrong {
            let error = run(&Target::Address(address.clone()), true).unwrap_err();
            assert_eq!(error.code, Code::Environment);
            let text = error.to_string();
            assert!(text.contains(&address), "{text}");
            assert!(
                text.to_lowercase().contains(&found.to_lowercase()),
                "{found} in {text}"
            );
        }
    }
}
