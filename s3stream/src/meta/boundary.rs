//! The deletion boundary of the log: entries up to it may be deleted.
//!
//! *Owns*: its keys, reading the greatest, drawing a new one.
//! *Does not own*: when one is drawn and what is deleted (`collect`).
//!
//! Invariants
//! 1. The boundary only ascends: it is the greatest that was ever drawn, and an older
//!    one is deleted only while a greater one exists.
//! 2. It is an object of its own, `meta/gc/{number}`: a process that slept cannot
//!    follow the log to a record in it, but it can list.
//!
//! *IO: none* (requests go through the bucket port)

use tidewater_types::ClusterId;

use crate::error::MetaError;

use super::format::boundary;
use super::fresh::Fresh;
use super::load::MetaReader;

pub(crate) const BOUNDARY_PREFIX: &str = "meta/gc/";

pub(crate) fn boundary_key(boundary: u64) -> String {
    format!("{BOUNDARY_PREFIX}{boundary:020}")
}

impl MetaReader {
    /// The boundary as it is at some moment from now on; `known` is one seen before, or 0.
    ///
    /// The last page of a listing shows all that lies behind it at one moment, and the boundary
    /// only ascends: so the last key is the boundary of that moment or a later one.
    pub(crate) async fn boundary(&self, known: u64) -> Result<Fresh, MetaError> {
        let mut fresh = Fresh::now(&*self.env, known);
        let after = (known > 0).then(|| boundary_key(known));
        let found = self.list(BOUNDARY_PREFIX, after).await?;
        fresh.boundary = found.last().copied().unwrap_or(known);
        Ok(fresh)
    }

    /// Compares the bytes of a boundary with its number and its checksum; the cluster that it was drawn
    /// for, or `None` if there is no such boundary. Whoever opens the log goes by the key alone.
    pub(crate) async fn verify_boundary(
        &self,
        number: u64,
    ) -> Result<Option<ClusterId>, MetaError> {
        let decode = |bytes| boundary::decode(bytes, number);
        let found = self.decoded(&boundary_key(number), decode).await?;
        Ok(found.map(|(cluster, _)| cluster))
    }

    /// Makes a boundary durable.
    pub(super) async fn draw_boundary(
        &self,
        number: u64,
        cluster: ClusterId,
        writer: u64,
    ) -> Result<(), MetaError> {
        let bytes = boundary::encode(number, cluster, writer);
        self.put(&boundary_key(number), bytes).await
    }
}
