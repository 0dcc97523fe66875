//! The APIs as a client sees them: encoded requests in, decoded replies out.
//!
//! *IO: none* (memory bucket and memory WAL; restarts use a folder of their own)

mod client;
mod cluster_tests;
mod config_tests;
mod fetch_tests;
mod group_tests;
mod half_way_tests;
mod idempotence_tests;
mod list_offsets_tests;
mod metadata_tests;
mod offset_tests;
mod partition_tests;
mod produce_tests;
mod restart_tests;
mod round_trip_tests;
mod samples;
mod topic_tests;
mod wire;
