//! The coordinator as its clients see it.
//!
//! *Owns*: the harness that plays driver and clients, and the tests of membership.
//! *Does not own*: offsets (`offset_tests`), random histories (`random_tests`).
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::super::types::{JoinedMember, LeaveMember, Protocol};
use super::*;

mod harness;
mod member_tests;
mod offset_tests;
mod random_tests;
mod static_tests;
