//! `tidewater-crash`: the parts of the crash test on a real kernel.
//!
//! *IO: driver* (tidewater_sim::crash_main)

use std::process::ExitCode;

fn main() -> ExitCode {
    tidewater_sim::crash_main()
}
