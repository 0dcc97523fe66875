//! The mode that `auto` stands for where nothing can be measured: plain calls are all there is.
//!
//! *IO: none*

use std::path::Path;
use std::time::Duration;

use crate::config::DeviceWalConfig;

pub(super) fn resolve(_wal: &Path, _config: &mut DeviceWalConfig) -> Option<String> {
    None
}

pub(super) fn due(_wal: &Path, _config: &DeviceWalConfig) -> Option<Duration> {
    None
}

/// No measurement to come.
pub(super) struct Later;

impl Later {
    pub(super) fn begin(_wal: &Path, _delay: Duration) -> Self {
        Self
    }
}
