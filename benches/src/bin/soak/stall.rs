//! A bucket that takes nothing for a while.
//!
//! *Owns*: the time of it; how it is done: the local directory has no folder for what is being written.
//!
//! Invariants
//! 1. When the run ends the bucket takes everything again.
//!
//! *IO: driver*

use std::fs;
use std::path::{Path, PathBuf};

use tidewater_benches::Failure;

/// From when to when, in seconds of the run, and the folder with the name it has meanwhile.
pub(crate) struct Stall {
    from: f64,
    to: f64,
    folder: PathBuf,
    away: PathBuf,
    is_on: bool,
}

impl Stall {
    /// For `seconds` from `from` on, of the broker whose files are in `dir`.
    pub(crate) fn new(dir: &Path, from: f64, seconds: f64) -> Self {
        let bucket = dir.join("data/bucket");
        Self {
            from,
            to: from + seconds,
            folder: bucket.join(".tmp"),
            away: dir.join("stalled"),
            is_on: false,
        }
    }

    /// Begins or ends it, as it is time; whether it is on.
    ///
    /// # Errors
    /// The folder cannot be moved.
    pub(crate) fn look(&mut self, now: f64) -> Result<bool, Failure> {
        let is_on = (self.from..self.to).contains(&now);
        if is_on && !self.is_on {
            fs::rename(&self.folder, &self.away)?;
            self.is_on = true;
        } else if !is_on {
            self.end()?;
        }
        Ok(self.is_on)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The folder cannot be moved.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        if self.is_on {
            fs::rename(&self.away, &self.folder)?;
            self.is_on = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_away_for_the_time_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data/bucket/.tmp");
        fs::create_dir_all(&folder).unwrap();
        let mut stall = Stall::new(dir.path(), 10.0, 5.0);
        let mut there = |now| (stall.look(now).unwrap(), folder.exists());
        assert_eq!(there(9.0), (false, true));
        assert_eq!(there(10.0), (true, false));
        assert_eq!(there(14.0), (true, false));
        assert_eq!(there(15.0), (false, true));
        assert_eq!(there(16.0), (false, true));
    }
}
