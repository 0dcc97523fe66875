//! One life after the other: each begins when the lock is free and ends as planned.
//!
//! *Owns*: the beginning and the end of a life. *Does not own*: its inside (life.rs).
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::life;
use super::world::{Work, World};
use crate::check::{Violation, liveness};
use crate::plan::{End, Life};

/// How long a close may take, in virtual time.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(300);

/// One life: open, work, end.
pub(super) async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    let disk = world.open_device().await;
    if work != Work::Planned && !world.model.lock().created {
        // No life came as far as creating the log; a torn creation is in the way.
        world.start_over();
    }
    let tag = world.next_tag();
    let (sender, done) = oneshot::channel();
    let body = life::body(Arc::clone(world), tag, life, work, disk);
    world
        .handle
        .line(|| format!("life  {} {life:?} {work:?}", tag.0));
    world.handle.spawn(
        tag,
        "life",
        Box::pin(async move {
            body.await;
            _ = sender.send(());
        }),
    );
    if life.end == End::Close {
        let time = Box::pin(world.handle.sleep(CLOSE_TIME_MAX));
        let is_done = matches!(select(done, time).await, Either::Left(_));
        world.check(liveness::done(is_done, || {
            "a life that was to close did not end".to_owned()
        }));
    } else {
        let reached = world.device.after_ops(life.after_ops);
        drop(select(reached, done).await);
    }
    world.end(tag, life.end);
    world.model.lock().failure.take().map_or(Ok(()), Err)
}
