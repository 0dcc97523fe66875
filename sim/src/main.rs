//! `tidewater-sim`: runs the simulator from the command line.
//!
//! *IO: driver* (tidewater_sim::main)

use std::process::ExitCode;

fn main() -> ExitCode {
    tidewater_sim::main()
}
