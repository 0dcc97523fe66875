//! What slows a process down that runs on: a pause, a host that is slow.
//!
//! *Owns*: how long, and that only what struck somebody is counted.
//! *Does not own*: stopping a task and letting it go on (exec.rs), who is disturbed when.
//!
//! *IO: none*

use std::time::Duration;

use super::{Handle, Tag};

/// How a host that is slow runs: so long not, and so long again, and how long at most.
const SLOW_PAUSE: Duration = Duration::from_micros(300);
const SLOW_TURN: Duration = Duration::from_micros(30);
const SLOW_TIME_MAX: Duration = Duration::from_millis(200);

impl Handle {
    /// Whether there are tasks of `tag`, and they are not stopped: a fault would disturb them.
    pub(crate) fn is_running(&self, tag: Tag) -> bool {
        let state = self.core.state.lock();
        let has_tasks = || state.slots.iter().any(|slot| slot.used && slot.tag == tag);
        !state.stopped.contains_key(&tag) && has_tasks()
    }

    /// Stops the tasks of `tag` for `time`.
    pub(crate) async fn pause(&self, tag: Tag, time: Duration) {
        self.strike("pause");
        self.stop(tag);
        self.sleep(time).await;
        self.resume(tag);
    }

    /// Lets the tasks of `tag` run in short turns alone, for `time`: a host that is slow.
    pub(crate) async fn slow_down(&self, tag: Tag, time: Duration) {
        self.strike("slow_node");
        self.line(|| format!("slow  node={} for {time:?}", tag.0));
        let end = self.now().after(time.min(SLOW_TIME_MAX));
        while self.now() < end {
            self.stop(tag);
            self.sleep(SLOW_PAUSE).await;
            self.resume(tag);
            self.sleep(SLOW_TURN).await;
        }
    }
}
