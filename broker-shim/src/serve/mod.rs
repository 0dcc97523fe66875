//! A broker's life: start, run, stop.
//!
//! *Owns*: the way in. *Does not own*: the order of a start; see driver.rs.
//!
//! *IO: driver* (`driver.rs`)

mod driver;

pub(crate) use driver::{LOCK_FILE, exit_of_store, run};
