//! The judgement of one crash state.
//!
//! *Owns*: the recoveries a state goes through, and what each must serve.
//! *Does not own*: the rules themselves: `check::frames` is the simulator's model.
//!
//! Invariants
//! 1. A log that was there must be there; a refusal is a failure as much as a lost frame.
//!
//! *IO: through recover.rs*

use std::path::Path;

use tidewater_wal::{WalError, WalMode, peek_identity};

use super::book::{History, Promises};
use super::recover::{Frames, crashed, real, refused};
use crate::check::Violation;
use crate::check::frames::FrameModel;
use crate::disk::image::Image;
use crate::rng::Rng;

/// What a state that is in order had to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Frames that had to come back.
    pub(super) promised: u64,
    /// Frames that came back.
    pub(super) served: u64,
}

/// Judges states of one run.
pub(super) struct Judge<'a> {
    pub(super) history: &'a History,
    /// How the real driver does its I/O.
    pub(super) mode: WalMode,
}

impl Judge<'_> {
    /// Judges the log in the file at `path`: two recoveries by the real driver, and two on the
    /// simulated disk of which the first crashes. `image` reads the file.
    pub(super) fn judge(
        &self,
        path: &Path,
        image: impl FnOnce() -> Image,
        sector_bytes: usize,
        promises: &Promises,
        rng: &mut Rng,
    ) -> Result<Held, Violation> {
        let mut model = self.history.model(promises);
        let promised = model.promised().count() as u64;
        // On a device nobody is there to give a half-made log its name.
        let half_made = || {
            matches!(
                peek_identity(path),
                Err(WalError::SuperblocksDamaged { .. })
            )
        };
        if !promises.opened && (!path.exists() || half_made()) {
            return Ok(Held::default());
        }
        if !path.exists() {
            return Err(Violation::new(
                "open",
                "the log is gone after it was opened",
            ));
        }
        let image = image();
        let first = self.recovered(&mut model, real(path, self.mode, 0), "first recovery")?;
        self.recovered(&mut model, real(path, self.mode, 0), "second recovery")?;
        self.cut_off(&image, sector_bytes, promises, rng)?;
        let served = first.len() as u64;
        Ok(Held { promised, served })
    }

    fn recovered(
        &self,
        model: &mut FrameModel,
        outcome: Result<Frames, WalError>,
        what: &str,
    ) -> Result<Frames, Violation> {
        let frames = outcome.map_err(|error| named(refused(&error), what))?;
        model
            .recovered(&frames)
            .map_err(|violation| named(violation, what))?;
        Ok(frames)
    }

    /// A recovery cut off by a second power failure, and the one after it.
    fn cut_off(
        &self,
        image: &Image,
        sector_bytes: usize,
        promises: &Promises,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        let what = "a crash in the recovery";
        let crashed = crashed(image, sector_bytes, rng).map_err(|found| named(found, what))?;
        let mut model = self.history.model(promises);
        if let Some(before) = crashed.before {
            self.recovered(&mut model, Ok(before), what)?;
        }
        self.recovered(&mut model, Ok(crashed.after), what)?;
        Ok(())
    }
}

fn named(violation: Violation, what: &str) -> Violation {
    Violation::new(violation.checker, format!("{what}: {}", violation.detail))
}
