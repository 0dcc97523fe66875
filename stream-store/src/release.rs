//! Giving a stream up, so that another node may open it.
//!
//! *Owns*: the order: no more appends, all of it durable, all of it in objects, then the metadata.
//! *Does not own*: taking a stream (open.rs).
//!
//! Invariants
//! 1. A stream is released only when no WAL is needed to read it.
//!
//! *IO: none* (through ports)

use std::sync::Arc;

use tidewater_s3stream::{MetaError, MetaOp, Rejection};
use tidewater_types::{StreamId, mutant, sometimes};

use crate::error::StoreError;
use crate::shared::{Shared, StreamInner};
use crate::stream::Stream;
use crate::uplink;

/// Releases a stream that is open here.
pub(crate) async fn release(shared: &Arc<Shared>, id: StreamId) -> Result<(), StoreError> {
    let inner = shared.streams.lock().get(&id).cloned();
    let inner = inner.ok_or(StoreError::NoStream { stream: id })?;
    if !mutant!(115) {
        let released = StoreError::Released { stream: id };
        inner.closed.lock().get_or_insert(released);
    }
    inner.changed.notify_waiters();
    let stream = Stream {
        inner: Arc::clone(&inner),
        shared: Arc::clone(shared),
    };
    let end = stream.end();
    let durable = stream.wait_until(|stream| {
        if stream.high_watermark() >= end {
            return Some(Ok(()));
        }
        shared.failure().map(Err)
    });
    durable.await?;
    if !mutant!(84) {
        uplink::flush(shared).await?;
        if inner.tail.lock().committed() < end {
            // It was deleted meanwhile: its range was dropped.
            return Err(StoreError::NoStream { stream: id });
        }
    }
    shared.tier.set_key_owner(id, None);
    let (stream, epoch) = (id, inner.epoch);
    let give_up = MetaOp::ReleaseStream { stream, epoch };
    match shared.tier.metadata().propose(vec![give_up]).await {
        Ok(()) => {}
        Err(MetaError::Rejected {
            reason: Rejection::StreamUnknown { .. },
            ..
        }) => {
            *inner.closed.lock() = Some(StoreError::NoStream { stream });
            remove(shared, &inner);
            return Err(StoreError::NoStream { stream });
        }
        Err(error) => return Err(error.into()),
    }
    sometimes!("store: a stream was released");
    remove(shared, &inner);
    Ok(())
}

/// Forgets the handle, unless the stream was opened anew meanwhile.
fn remove(shared: &Shared, inner: &Arc<StreamInner>) {
    let mut streams = shared.streams.lock();
    let open = streams.get(&inner.id);
    if open.is_some_and(|open| Arc::ptr_eq(open, inner)) {
        streams.remove(&inner.id);
    }
}
