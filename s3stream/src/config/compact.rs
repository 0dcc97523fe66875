//! Configuration of compaction.
//!
//! *Owns*: the values and the check that they are usable. *Does not own*: where they come from.
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

use std::time::Duration;

use super::range::{ConfigError, check};

/// How small objects become large ones, and what nobody references goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactConfig {
    /// Whether it runs in the background while an uploader does. Default `true`.
    pub background: bool,
    /// Objects that are joined at a time, at least, unless fewer of them make a full one. Default
    /// 16; 2 to 64.
    ///
    /// Each byte is written again about once for each time this number fits between the size of
    /// an upload and that of a full object; fewer objects at a time cost more, and keep the
    /// metadata smaller.
    pub objects_min: usize,
    /// How many times as large as the largest of its sources an object becomes, at least. Default
    /// 8; 2 to 64.
    ///
    /// So a byte is written again for an object so much larger and for no other. Between an upload
    /// of 16 MiB and an object of 1 GiB that is once.
    pub growth_min: u64,
    /// Largest object that is written, in bytes. Default 1 GiB; 1 KiB to 5 GiB.
    ///
    /// It is sent in parts while it is made, so it takes no memory; in a store that takes no parts
    /// objects end at `step_bytes`. Large objects keep the metadata small; what is trimmed of one
    /// is freed with its last byte.
    pub object_bytes: u64,
    /// Memory for what a step has read and not passed on, in bytes; as much again at most for the
    /// indices of what it joins. Default 16 MiB; 1 KiB to 1 GiB.
    ///
    /// Its sources are read side by side and divide it: with less, requests become smaller and
    /// more, and fewer sets are joined at a time.
    pub step_bytes: u64,
    /// Bytes that the store copies with one request; 0: it copies nothing. Default 256 MiB; 0, or 1 KiB
    /// to 5 GiB.
    ///
    /// Large objects of one stream are joined by the store itself, where it takes parts of that kind;
    /// so joining them sends no bytes.
    pub copy_bytes: u64,
    /// Bytes that one request reads. Default 8 MiB; 1 KiB to 1 GiB.
    pub read_bytes: u64,
    /// Bytes that one request reads, at least, if its source has so many: `step_bytes` divided by it are
    /// the sets that are joined at a time. Default 512 KiB; 1 B to 1 GiB.
    ///
    /// A mebibyte costs two requests then, in price a sixth of one that writes.
    pub read_bytes_min: u64,
    /// Bytes that nobody asked for are read along if no more of them lie between two blocks. Default
    /// 256 KiB; 0 to 1 GiB.
    ///
    /// One more request takes as long as some megabytes of one that is under way.
    pub gap_bytes: u64,
    /// Most bytes of stream-set objects that wait to be split into objects of their streams, and are
    /// split together; 0: none is, sets are only joined. Default 16 GiB; 0, or 1 KiB to 1 TiB.
    ///
    /// Waiting saves that a byte is joined and written again before it reaches the object of its
    /// stream. A stream of which these hold less than `stream_object_bytes` does not get there by one
    /// pass: at 8 MiB those are more than 2,048 streams.
    pub split_window_bytes: u64,
    /// Whether sets are split, too, that were joined before. Default `false`.
    ///
    /// A byte is sent once more then: upload, join, split. Without it sets that cannot wait for a split, as
    /// the memory is small for so many streams, stay sets; with enough memory for uploads they are split
    /// straight away. A set of more than twice `upload_bytes` is taken for a joined one.
    pub split_joined: bool,
    /// Bytes that a request of a split reads, on average, at least. Default 256 KiB; 1 B to 1 GiB.
    ///
    /// `step_bytes` divided by it are the sets that are split together. A mebibyte costs four requests then,
    /// in price a third of one that writes; with less, more streams are reached by one pass.
    pub split_read_bytes_min: u64,
    /// Sets are split once a stream has so much in them on average, in percent of
    /// `stream_object_bytes`. Default 112; 100 to 1,000.
    ///
    /// Streams are not exactly even: at 100 half of them would have a little too little.
    pub split_percent: u64,
    /// A split commits whenever it has written so many bytes. Default 256 MiB; 1 B to 8 GiB.
    ///
    /// It is what a crash makes be written again, and a commit is one request. What takes longer than
    /// `orphan_age` to be committed is condemned before.
    pub split_commit_bytes: u64,
    /// Memory for the newest record of each key while a stream is compacted by key, in bytes: 24 a
    /// key, of which nine in ten are used. Default 32 MiB, for 1.2 million keys; 48 B to 64 GiB.
    ///
    /// It is taken for the time of a pass alone, and no more of it than the pass needs. A pass
    /// rewrites the whole stream up to where the table was full, so with half of it a stream of
    /// many keys is rewritten twice as often.
    pub key_map_bytes: u64,
    /// Fewer records than this are not worth a pass over their stream, unless its owner says that
    /// they are old enough. Default 10,000; 1 to 1,000,000,000.
    ///
    /// A pass costs at least a read and a write for each object that it changes, and two commits.
    pub key_records_min: u64,
    /// Bytes read and written in a second. Default 256 MiB; `rate_floor` to 1 TiB.
    ///
    /// What comes in is read and written about once. The requests of a step go one after the other, so a
    /// slow store keeps it below this.
    pub rate: u64,
    /// The same while as much waits for its upload as starts one. Default 4 MiB; 64 KiB to 1 TiB.
    ///
    /// Compaction gives way to uploads, and still gets on.
    pub rate_floor: u64,
    /// Pause after a look at the metadata that found nothing to do. Default 1 s; 1 ms to 1 h.
    ///
    /// A look costs no request; it is made after a change of the metadata and never without one.
    pub pause: Duration,
    /// How long an object that nobody references must have been seen before it is condemned.
    /// Default 1 h; 0 to 30 days.
    ///
    /// An upload that takes longer between its object and its commit has to send it again.
    pub orphan_age: Duration,
    /// Orphans are looked for after this many objects were written, if that is also a tenth of
    /// all there are. Default 1,000; 1 to 1,000,000.
    ///
    /// A listing costs a request for each 1,000 objects: so about one in a hundred writes.
    pub orphan_objects: u64,
    /// Orphans of one sweep; more are left to the next. Default 10,000; 1 to 10,000,000.
    ///
    /// Each takes some 100 bytes of memory meanwhile.
    pub orphans_max: usize,
}

impl Default for CompactConfig {
    fn default() -> Self {
        Self {
            background: true,
            objects_min: 16,
            growth_min: 8,
            object_bytes: 1 << 30,
            step_bytes: 16 << 20,
            copy_bytes: 256 << 20,
            read_bytes: 8 << 20,
            read_bytes_min: 512 << 10,
            gap_bytes: 256 << 10,
            split_window_bytes: 16 << 30,
            split_joined: false,
            split_read_bytes_min: 256 << 10,
            split_percent: 112,
            split_commit_bytes: 256 << 20,
            key_map_bytes: 32 << 20,
            key_records_min: 10_000,
            rate: 256 << 20,
            rate_floor: 4 << 20,
            pause: Duration::from_secs(1),
            orphan_age: Duration::from_secs(3_600),
            orphan_objects: 1_000,
            orphans_max: 10_000,
        }
    }
}

impl CompactConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let pause = Duration::from_millis(1)..=Duration::from_secs(3_600);
        check(
            (2..=64).contains(&self.objects_min),
            "compact.objects_min",
            "2 to 64",
        )?;
        check(
            (2..=64).contains(&self.growth_min),
            "compact.growth_min",
            "2 to 64",
        )?;
        self.validate_sizes()?;
        self.validate_split()?;
        check(
            (48..=64 << 30).contains(&self.key_map_bytes),
            "compact.key_map_bytes",
            "48 B to 64 GiB",
        )?;
        check(
            (1..=1_000_000_000).contains(&self.key_records_min),
            "compact.key_records_min",
            "1 to 1,000,000,000",
        )?;
        check(
            (64 << 10..=1 << 40).contains(&self.rate_floor),
            "compact.rate_floor",
            "64 KiB to 1 TiB",
        )?;
        check(
            (self.rate_floor..=1 << 40).contains(&self.rate),
            "compact.rate",
            "rate_floor to 1 TiB",
        )?;
        check(pause.contains(&self.pause), "compact.pause", "1 ms to 1 h")?;
        check(
            self.orphan_age <= Duration::from_secs(30 * 86_400),
            "compact.orphan_age",
            "0 to 30 days",
        )?;
        check(
            (1..=1_000_000).contains(&self.orphan_objects),
            "compact.orphan_objects",
            "1 to 1,000,000",
        )?;
        check(
            (1..=10_000_000).contains(&self.orphans_max),
            "compact.orphans_max",
            "1 to 10,000,000",
        )
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        check(
            (1 << 10..=5 << 30).contains(&self.object_bytes),
            "compact.object_bytes",
            "1 KiB to 5 GiB",
        )?;
        check(
            (1 << 10..=1 << 30).contains(&self.step_bytes),
            "compact.step_bytes",
            "1 KiB to 1 GiB",
        )?;
        check(
            self.copy_bytes == 0 || (1 << 10..=5 << 30).contains(&self.copy_bytes),
            "compact.copy_bytes",
            "0, or 1 KiB to 5 GiB",
        )?;
        check(
            (1 << 10..=1 << 30).contains(&self.read_bytes),
            "compact.read_bytes",
            "1 KiB to 1 GiB",
        )?;
        check(
            (1..=1 << 30).contains(&self.read_bytes_min),
            "compact.read_bytes_min",
            "1 B to 1 GiB",
        )?;
        check(self.gap_bytes <= 1 << 30, "compact.gap_bytes", "0 to 1 GiB")
    }

    fn validate_split(&self) -> Result<(), ConfigError> {
        check(
            self.split_window_bytes == 0 || (1 << 10..=1 << 40).contains(&self.split_window_bytes),
            "compact.split_window_bytes",
            "0, or 1 KiB to 1 TiB",
        )?;
        check(
            (1..=1 << 30).contains(&self.split_read_bytes_min),
            "compact.split_read_bytes_min",
            "1 B to 1 GiB",
        )?;
        check(
            (100..=1_000).contains(&self.split_percent),
            "compact.split_percent",
            "100 to 1,000",
        )?;
        check(
            (1..=8 << 30).contains(&self.split_commit_bytes),
            "compact.split_commit_bytes",
            "1 B to 8 GiB",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::CompactConfig;

    #[test]
    fn the_rate_may_not_lie_below_its_floor() {
        CompactConfig::default().validate().unwrap();
        let config = CompactConfig {
            rate: 1 << 20,
            ..CompactConfig::default()
        };
        let err = config.validate().unwrap_err();
        assert_eq!(err.to_string(), "compact.rate must be rate_floor to 1 TiB");
    }
}
