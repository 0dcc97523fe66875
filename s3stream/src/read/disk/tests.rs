//! Tests of the disk cache: scans, damage, restarts.
