//! Spreads the requests of uploads over time.
//!
//! *Owns*: the measured input rate, whose turn it is to send, when nobody waits.
//! *Does not own*: what is sent, when an upload is due.
//!
//! Invariants
//! 1. A request pays after it was sent: the first one of a batch never waits for itself.
//! 2. While one burst is asked for, nobody waits, and who waits is woken.
//! 3. Nobody waits longer than the age at which an upload is due: a rate that was measured while
//!    little came in, or by a clock that stood still, is forgotten by the next batch.
//!
//! *IO: none* (sleeps through the environment port)

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use tidewater_types::{Env, Instant, sometimes};
use tokio::sync::Notify;

/// Whose turn it is.
pub(crate) struct Pacer {
    env: Arc<dyn Env>,
    percent: u64,
    wait_max: Duration,
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Default)]
struct State {
    /// Of the input; 0 before it is known.
    bytes_per_s: u64,
    /// Before this moment nothing is sent.
    next: Instant,
    /// Reasons not to wait.
    bursts: usize,
}

/// Nobody waits while one of these is held.
pub(crate) struct Burst {
    pacer: Arc<Pacer>,
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.pacer.state.lock().bursts -= 1;
    }
}

impl Pacer {
    pub(crate) fn new(env: Arc<dyn Env>, percent: u32, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            env,
            percent: percent.into(),
            wait_max,
            state: Mutex::default(),
            woken: Notify::new(),
        })
    }

    /// `num_bytes` were pending when a batch was sealed, the oldest of them since `oldest`.
    pub(crate) fn measure(&self, num_bytes: u64, oldest: Instant) {
        let millis = self.env.now().since(oldest).as_millis().max(1);
        let per_s = u128::from(num_bytes) * 1_000 / millis;
        self.state.lock().bytes_per_s = u64::try_from(per_s).unwrap_or(u64::MAX).max(1);
    }

    /// Lets everybody go at once while the answer is held.
    pub(crate) fn burst(self: &Arc<Self>) -> Burst {
        let mut state = self.state.lock();
        state.bursts += 1;
        // What was paid for is forgiven.
        state.next = self.env.now();
        drop(state);
        self.woken.notify_waiters();
        Burst {
            pacer: Arc::clone(self),
        }
    }

    /// Completes when a request of `num_bytes` may be sent.
    pub(crate) async fn turn(&self, num_bytes: usize) {
        let start = {
            let mut state = self.state.lock();
            let now = self.env.now();
            if self.percent == 0 || state.bytes_per_s == 0 || state.bursts > 0 {
                return;
            }
            let start = state.next.max(now);
            let price = price(num_bytes, state.bytes_per_s, self.percent);
            state.next = start.after(price).min(now.after(self.wait_max));
            start
        };
        loop {
            let mut woken = std::pin::pin!(self.woken.notified());
            woken.as_mut().enable();
            let now = self.env.now();
            if now >= start || self.state.lock().bursts > 0 {
                return;
            }
            sometimes!("s3stream: upload request waited for its turn");
            select(self.env.sleep(start.since(now)), woken).await;
        }
    }
}

/// How long `num_bytes` take at `percent` of the input's rate.
fn price(num_bytes: usize, bytes_per_s: u64, percent: u64) -> Duration {
    let nanos = num_bytes as u128 * 100 * 1_000_000_000
        / (u128::from(bytes_per_s) * u128::from(percent)).max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEnv;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_at_the_rate_of_the_input_and_a_burst_ends_all_waits() {
        let env = TestEnv::shared(1);
        let pacer = Pacer::new(Arc::clone(&env), 200, HOUR);
        let begin = env.now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        pacer.turn(1 << 30).await;
        assert_eq!(env.now().since(begin).as_secs(), 10, "no rate is known");
        // 1,000 bytes a second came in: 2,000 may go out.
        pacer.measure(10_000, begin);
        let sent = env.now();
        for _ in 0..5 {
            pacer.turn(1_000).await;
        }
        assert_eq!(env.now().since(sent).as_millis(), 2_000);
        let waiting = tokio::spawn({
            let pacer = Arc::clone(&pacer);
            async move {
                pacer.turn(1_000_000).await;
                pacer.turn(1).await;
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let burst = pacer.burst();
        let asked = env.now();
        waiting.await.unwrap();
        pacer.turn(1 << 40).await;
        assert_eq!(env.now(), asked);
        drop(burst);
        pacer.turn(2_000).await;
        assert_eq!(env.now(), asked, "nothing is owed from before the burst");
        pacer.turn(1).await;
        assert_eq!(env.now().since(asked).as_millis(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_an_upload_may_be_old() {
        let env = TestEnv::shared(1);
        let age = Duration::from_secs(10);
        let pacer = Pacer::new(Arc::clone(&env), 150, age);
        let begin = env.now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A byte in a second, and then a large object.
        pacer.measure(1, begin);
        for _ in 0..3 {
            pacer.turn(64 << 20).await;
        }
        assert_eq!(env.now().since(begin).as_secs(), 1 + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pace_nobody_waits() {
        let env = TestEnv::shared(1);
        let pacer = Pacer::new(Arc::clone(&env), 0, HOUR);
        pacer.measure(1, env.now());
        let begin = env.now();
        pacer.turn(1 << 40).await;
        pacer.turn(1 << 40).await;
        assert_eq!(env.now(), begin);
    }
}
