//! What one connection may cost.
//!
//! *Owns*: the limits and how long a frame may take.
//!
//! *IO: none*

use std::time::Duration;

/// Limits of a listener and its connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest frame in bytes, without its length (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Requests of one connection without a response.
    pub in_flight_max: usize,
    /// Bytes of such requests and of responses not yet written, of one connection. One request
    /// may go over it.
    pub in_flight_bytes_max: usize,
    /// The same of all connections together. A connection with nothing in flight may begin one
    /// request beyond it.
    pub total_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// How long the first whole request may take.
    pub first_request: Duration,
    /// How long nothing may happen (`connections.max.idle.ms`).
    pub idle: Duration,
    /// How long a frame may take, whatever its size.
    pub frame_base: Duration,
    /// The pace below which a large frame is given up, in bytes a second.
    pub frame_bytes_per_second: u64,
    /// How long responses may take once the broker stops.
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 100 << 20,
            in_flight_max: 64,
            in_flight_bytes_max: 128 << 20,
            total_bytes_max: 512 << 20,
            connections_max: 10_000,
            first_request: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            frame_base: Duration::from_secs(30),
            frame_bytes_per_second: 16 << 10,
            stop_grace: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// How long a frame of `num_bytes` may take from its first byte to its last.
    pub(crate) fn frame_time(&self, num_bytes: usize) -> Duration {
        let num_bytes = u64::try_from(num_bytes).unwrap_or(u64::MAX);
        let seconds = num_bytes / self.frame_bytes_per_second.max(1);
        self.frame_base.saturating_add(Duration::from_secs(seconds))
    }
}
