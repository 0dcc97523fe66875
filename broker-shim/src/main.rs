//! The `tidewater` binary.
//!
//! *Owns*: the allocator and how it is set (docs/adr/0031). *Does not own*: everything else; see the
//! library.
//!
//! Invariants
//! 1. What was freed goes back to the system within about a second, also while the broker is idle.
//!
//! *IO: driver*

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by the allocator before `main`; `_RJEM_MALLOC_CONF` in the environment goes before it. Few arenas,
/// whatever the number of processors: what one of them has free is of no use to the others, and buffers
/// are filled by one thread and freed by another. No huge pages: one live buffer would keep two MiB.
// SAFETY: the allocator declares this symbol as a weak `const char *`; an option of a reference is one
// pointer, and what it points to ends with a zero and lives for ever.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_CONF: Option<&'static std::ffi::c_char> = {
    const CONF: &std::ffi::CStr =
        c"narenas:4,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,thp:never";
    // SAFETY: the pointer of a `CStr` is that of its first byte, which is there.
    Some(unsafe { &*CONF.as_ptr() })
};

fn main() -> ExitCode {
    tidewater_broker::main()
}
