//! The `tidewater` binary.
//!
//! *Owns*: the allocator. *Does not own*: everything else; see the library.
//!
//! *IO: driver*

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewater_broker::main()
}
