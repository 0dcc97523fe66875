//! SIGTERM and SIGINT: the first asks for a clean stop, the second leaves at once.
//!
//! *Owns*: turning signals into one flag.
//! *Does not own*: the clean stop.
//!
//! *IO: driver*

mod driver;

pub(crate) use driver::stop_on_signals;
