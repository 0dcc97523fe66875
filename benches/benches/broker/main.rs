//! Benches of the broker as a process.
//!
//! *IO: driver*

fn main() {}
