//! What somebody before a terminal sees while a long command runs.
//!
//! *IO: driver* (starts the simulator's own binary on a terminal of its own)

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::ptr::null;

/// Both ends of a new terminal: what is drawn comes out of the first one.
fn terminal() -> [File; 2] {
    let size = libc::winsize {
        ws_row: 40,
        ws_col: 160,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let mut ends = [-1; 2];
    let [ours, theirs] = &mut ends;
    // SAFETY: it writes an integer to each of the first two and reads the size; the others may be
    // null.
    let code =
        unsafe { libc::openpty(ours, theirs, std::ptr::null_mut(), null(), &raw const size) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were opened just now, and nobody else has them.
    ends.map(|end| unsafe { File::from_raw_fd(end) })
}

/// All that a command draws.
fn drawn(args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [mut ours, theirs] = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
        .args(args)
        .arg("--out")
        .arg(folder.path())
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .expect("the simulator starts");
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    // A terminal whose other end is closed answers with an error.
    while let Ok(len) = ours.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..len]);
        if len == 0 {
            break;
        }
    }
    child.wait().expect("it ends");
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_campaign_and_a_hunt_draw_how_much_is_done_how_fast_and_what_is_left() {
    let campaign = ["campaign", "--minutes", "0.03", "--scenario", "wal"];
    let hunt = ["mutants", "--only", "9", "--max-seeds", "400"];
    let run = ["run", "--seeds", "600", "--scenario", "store"];
    let shrink = [
        "shrink",
        "1",
        "--scenario",
        "wal",
        "--mutant",
        "1",
        "--tries",
        "300",
    ];
    for args in [&campaign[..], &hunt, &run, &shrink] {
        let seen = drawn(args);
        assert!(seen.contains("[=") && seen.contains(" %, "), "{seen}");
        assert!(
            seen.contains(" left: ") && seen.contains(" a minute"),
            "{seen}"
        );
    }
}
