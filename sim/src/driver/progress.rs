//! How far a long command is.
//!
//! *Owns*: the bar on a terminal, a plain line a minute elsewhere, the time that is left.
//! *Does not own*: what is counted; whoever counts says how much of it is done.
//!
//! Invariants
//! 1. Standard error alone is written to, and nothing is drawn over another line.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: people are told real time"
)]

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written where nobody sees a bar.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Parts of a bar.
const PARTS: u64 = 10_000;

/// The progress of one command, or of one part of it.
pub(super) struct Progress {
    /// `None`: no terminal.
    bar: Option<ProgressBar>,
    start: Instant,
    told: Instant,
}

impl Progress {
    /// Begins at 0.
    pub(super) fn new() -> Self {
        let style =
            ProgressStyle::with_template("[{bar:24}] {wide_msg}").expect("a valid template");
        let bar = || ProgressBar::new(PARTS).with_style(style.progress_chars("=> "));
        let now = Instant::now();
        Self {
            bar: stderr().is_terminal().then(bar),
            start: now,
            told: now,
        }
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells that `share` of 1 is done, if it is time to; `words` say of what.
    pub(super) fn tick(&mut self, share: f64, words: impl FnOnce() -> String) {
        let every = match self.bar {
            Some(_) => DRAWN_EVERY,
            None => TOLD_EVERY,
        };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let line = line(share, self.elapsed(), &words());
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.set_position((share.clamp(0.0, 1.0) * PARTS as f64) as u64);
            }
            None => eprintln!("{line}"),
        }
    }

    /// Lets `print` write lines to the terminal, the bar below them.
    pub(super) fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Number of things a minute.
pub(super) fn a_minute(count: u64, took: Duration) -> u64 {
    (count as f64 * 60.0 / took.as_secs_f64().max(1e-9)) as u64
}

/// One line: how much is done, how long the rest takes at this rate, and what it is.
fn line(share: f64, took: Duration, words: &str) -> String {
    let share = share.clamp(0.0, 1.0);
    let left = match Duration::try_from_secs_f64(took.as_secs_f64() * (1.0 - share) / share) {
        Ok(left) => format!("{} left", in_words(left)),
        Err(_) => "nothing done yet".to_owned(),
    };
    format!("{:.0} %, {left}: {words}", (share * 100.0).floor())
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{a_minute, line};

    #[test]
    fn the_time_that_is_left_follows_from_the_share_that_is_done() {
        let line = |share, seconds| line(share, Duration::from_secs(seconds), "9 seeds");
        assert_eq!(line(0.25, 10), "25 %, 30 s left: 9 seeds");
        assert_eq!(line(0.5, 75), "50 %, 1 min 15 s left: 9 seeds");
        assert_eq!(line(0.1, 1200), "10 %, 3 h 00 min left: 9 seeds");
        assert_eq!(line(0.999, 1), "99 %, 0 s left: 9 seeds");
        assert_eq!(line(1.5, 10), "100 %, 0 s left: 9 seeds");
        assert_eq!(line(0.0, 10), "0 %, nothing done yet: 9 seeds");
    }

    #[test]
    fn a_rate_is_told_a_minute() {
        assert_eq!(a_minute(50, Duration::from_secs(30)), 100);
        assert_eq!(a_minute(0, Duration::ZERO), 0);
    }
}
