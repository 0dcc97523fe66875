//! Proof that WAL ∪ objects tile every stream.
//!
//! *Owns*: the public entry, the order in which WALs, objects and metadata are read, what is
//! believed at once and what only at a second look.
//! *Does not own*: objects and metadata (the tier's own check), the WALs' formats.
//!
//! Invariants
//! 1. It changes nothing; only `repair` deletes, and only what can never be wanted again.
//! 2. It may run beside a live owner: WALs are read before the metadata, so what a WAL no longer
//!    holds, the metadata already know. What contradicts the proof is looked at twice.
//! 3. A WAL that was not looked at is said to be so.
//!
//! *IO: none* (through ports; the device WAL's blocking look is in driver.rs)

mod log;
mod repair;
mod union;
mod wals;

use std::path::PathBuf;
use std::sync::Arc;

use tidewater_bucket::Bucket;
use tidewater_s3stream::{
    Finding, FindingKind, FsckOptions, FsckProgress, MetaState, Metadata, Severity, fsck,
};
use tidewater_types::{Env, Lsn, NodeId};
use tidewater_wal::ObjectWalConfig;

use crate::driver::DevicePlace;
use crate::error::StoreError;
use union::Union;
use wals::Wals;

pub use tidewater_s3stream::{Finding as FsckFinding, FsckReport};

/// A check of everything a cluster keeps in a bucket and in its write-ahead logs.
pub struct Fsck {
    env: Arc<dyn Env>,
    bucket: Arc<dyn Bucket>,
    checksums: bool,
    progress: FsckProgress,
    skip_wals: bool,
    device: Option<DevicePlace>,
    object: ObjectWalConfig,
    /// What a running owner knows to be durable.
    durable: Option<(NodeId, Lsn)>,
}

impl Fsck {
    /// A check of the cluster in `bucket`, with the object WALs that lie there.
    #[must_use]
    pub fn new(env: Arc<dyn Env>, bucket: Arc<dyn Bucket>) -> Self {
        Self {
            env,
            bucket,
            checksums: false,
            progress: FsckProgress::default(),
            skip_wals: false,
            device: None,
            object: ObjectWalConfig::default(),
            durable: None,
        }
    }

    /// Whether every block and every metadata entry is read and its checksum verified, and not
    /// sizes and indices alone. WALs are always read whole; of object WALs this adds what earlier
    /// lives left for good.
    #[must_use]
    pub fn with_checksums(mut self, checksums: bool) -> Self {
        self.checksums = checksums;
        self
    }

    /// Also reads the device WAL of `node` at `path`, a file or block device. One that a process
    /// uses is refused unless `in_use` says that it may be.
    #[must_use]
    pub fn with_device_wal(mut self, node: NodeId, path: PathBuf, in_use: bool) -> Self {
        self.device = Some(DevicePlace { node, path, in_use });
        self
    }

    /// Looks at object WALs with the settings that their nodes open them with: how long a slow store
    /// is waited for. Of frames only the heads are held, however long a log is.
    #[must_use]
    pub fn with_object_wal(mut self, config: ObjectWalConfig) -> Self {
        self.object = config;
        self
    }

    /// Looks at no WAL: what is not in objects is not checked.
    #[must_use]
    pub fn without_wals(mut self) -> Self {
        self.skip_wals = true;
        self
    }

    /// The WAL of `node` must reach `durable`: its running owner has acknowledged that much.
    #[must_use]
    pub fn with_durable(mut self, node: NodeId, durable: Lsn) -> Self {
        self.durable = Some((node, durable));
        self
    }

    /// Bytes of objects that were checked, and how many there are to check (0 until known).
    pub fn progress(&self) -> impl Fn() -> (u64, u64) + Send + 'static {
        let progress = self.progress.clone();
        move || (progress.done(), progress.total())
    }

    /// Checks. What is wrong is in the report.
    ///
    /// # Errors
    /// What keeps it from checking: a bucket or a device that does not answer, a WAL that is in
    /// use, one of another cluster or node.
    pub async fn run(&self) -> Result<FsckReport, StoreError> {
        let wals = self.look().await?;
        let options = FsckOptions {
            verify_checksums: self.checksums,
            progress: self.progress.clone(),
        };
        let (bucket, env) = (Arc::clone(&self.bucket), Arc::clone(&self.env));
        let mut report = fsck(bucket, env, options).await?;
        let Some(state) = report.metadata.take() else {
            // Nothing to hold the WALs against; that they are damaged is still worth knowing.
            report.findings.extend(wals.findings);
            return Ok(report);
        };
        let first = self.judge(&wals, &state, &report)?;
        let believed = if first
            .iter()
            .any(|finding| finding.severity == Severity::Error)
        {
            self.confirm(first, &report).await?
        } else {
            first
        };
        report.findings.extend(believed);
        report.metadata = Some(state);
        Ok(report)
    }

    async fn look(&self) -> Result<Wals, StoreError> {
        let mut wals = Wals::default();
        if self.skip_wals {
            return Ok(wals);
        }
        if let Some(device) = &self.device {
            wals.read_device(device).await?;
        }
        wals.read_objects(&self.bucket, &self.env, &self.object, self.checksums)
            .await?;
        Ok(wals)
    }

    /// What WALs and metadata, taken together, say.
    fn judge(
        &self,
        wals: &Wals,
        state: &MetaState,
        report: &FsckReport,
    ) -> Result<Vec<Finding>, StoreError> {
        if self.skip_wals {
            let detail = "write-ahead logs were left out: what is not in objects is not proven";
            let finding = Finding::new(Severity::Info, FindingKind::Missing, detail.to_owned());
            return Ok(vec![finding]);
        }
        let mut union = Union::new(state);
        union.findings.extend(wals.findings.iter().cloned());
        wals.check_against(state, self.device.as_ref(), &mut union)?;
        union.frames();
        union.orphans(report);
        if let Some((node, durable)) = self.durable {
            wals.check_reach(node, durable, &mut union.findings);
        }
        Ok(union.findings)
    }

    /// Of the errors only what a second look at WALs and metadata shows too: an owner that lives
    /// may have appended, uploaded and trimmed between the parts of the first one.
    async fn confirm(
        &self,
        first: Vec<Finding>,
        report: &FsckReport,
    ) -> Result<Vec<Finding>, StoreError> {
        let wals = self.look().await?;
        let Some(state) = Metadata::peek(&self.bucket, &self.env).await? else {
            return Ok(first);
        };
        let second = self.judge(&wals, &state, report)?;
        let shown_again = |finding: &Finding| {
            let same = |other: &&Finding| {
                (other.what, other.stream, &other.object)
                    == (finding.what, finding.stream, &finding.object)
                    && other.range.map(|range| range.start())
                        == finding.range.map(|range| range.start())
            };
            finding.severity != Severity::Error || second.iter().any(|other| same(&other))
        };
        Ok(first.into_iter().filter(shown_again).collect())
    }
}

impl std::fmt::Debug for Fsck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fsck")
            .field("checksums", &self.checksums)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
