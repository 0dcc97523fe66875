//! The deterministic simulator of the Tidewater engine.
//!
//! *Owns*: an executor with virtual time, a disk and a bucket that fail, the scenarios
//! that run the real code on them, the checkers that judge it, and the campaign; the crash
//! test on a real kernel, which the same checkers judge.
//! *Does not own*: the code under test; it runs as it is, seeded bugs aside.
//!
//! Invariants
//! 1. A run follows from its seed, scenario and mutant alone: the same three give the
//!    same trace hash, in every process.
//! 2. Nothing here reads a clock, draws real randomness or starts a thread, except the
//!    campaign's driver, which runs one seed a thread, and `crash`, which is not simulated.
//!
//! *IO: none; driver.rs starts threads and prints, crash/ works on files and devices*
#![doc = include_str!("../README.md")]
#![cfg_attr(doctest, doc = include_str!("../../docs/simulation.md"))]
// What a public signature names can be named.
#![warn(unnameable_types)]

mod bucket;
mod cache_disk;
mod check;
mod crash;
mod disk;
mod driver;
mod env;
mod exec;
mod mutants;
mod net;
mod plan;
mod rng;
mod scenario;
mod trace;
mod trial;

pub use bucket::{BucketFaults, SimBucket};
pub use check::frames::FrameModel;
pub use check::streams::{Seen, StreamModel};
pub use check::watermarks::WatermarkModel;
pub use check::{Violation, payload, value_of};
pub use crash::main as crash_main;
pub use disk::{CrashStyle, Device, DiskFaults, DiskShape, SimDisk};
pub use driver::{TrialFailure, Trials, main};
pub use env::SimEnv;
pub use exec::{Executor, Handle, Limits, Stop, Tag};
pub use net::{Connected, Host, NetFaults, SimListener, SimNet, SimRead, SimWrite};
pub use plan::{Plan, Scenario};
pub use rng::Rng;
pub use scenario::{RunReport, run_plan};
pub use trace::Event;
pub use trial::{Trial, run_trial};
