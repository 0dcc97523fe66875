//! What compaction asks for, of a described workload.
//!
//! *Owns*: the way of a byte from its upload to its last object, step by step, and what each step takes.
//! *Does not own*: uploads (`model.rs`), prices; the choice of what is compacted (the engine's, by whose
//! rules this goes).
//!
//! Invariants
//! 1. Streams are even, so all objects that a step takes are alike; a step is made as soon as there are
//!    enough of them.
//! 2. What is not enough for a step when the workload ends stays as it is.
//!
//! Left out: compaction by key, which depends on the keys, and listings for orphans.
//!
//! *IO: none*

use tidewater_stream_store::TierConfig;

use super::usage::{MIB, Usage};

/// Header of a block; its row in the index.
const BLOCK_BYTES: f64 = 64.0;
const ROW_BYTES: f64 = 64.0;
/// Header of an object; its footer.
const HEADER_BYTES: f64 = 48.0;
const FOOTER_BYTES: f64 = 80.0;
/// Bytes of a commit, an object in it, a run in it, a source of a run.
const COMMIT_BYTES: f64 = 150.0;
const OBJECT_BYTES: f64 = 49.0;
const RUN_BYTES: f64 = 105.0;
const SOURCE_BYTES: f64 = 44.0;
/// What stores copy as a part, at least.
const COPY_BYTES_MIN: f64 = 5.0 * MIB;
/// Dead objects that one entry of the metadata log forgets.
const FORGOTTEN_AT_ONCE: f64 = 128.0;

/// The settings that decide, as numbers. docs: `CompactConfig`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) objects_min: f64,
    pub(super) growth_min: f64,
    pub(super) object_bytes: f64,
    pub(super) step_bytes: f64,
    pub(super) read_bytes: f64,
    /// Sets are joined so that each is read so much at a time, at least.
    pub(super) read_bytes_min: f64,
    pub(super) copy_bytes: f64,
    pub(super) part_bytes: f64,
    pub(super) block_bytes: f64,
    pub(super) stream_object_bytes: f64,
    /// Most bytes of sets that wait to be split together; 0: none is.
    pub(super) split_window_bytes: f64,
    /// Whether sets that were joined are split, too.
    pub(super) split_joined: bool,
    /// Bytes that a request of a split reads, at least.
    pub(super) split_read_bytes_min: f64,
    /// Bytes of a stream that make a split worth it.
    pub(super) split_stream_bytes: f64,
    /// A split commits whenever it has written so much.
    pub(super) split_commit_bytes: f64,
    /// Entries of the metadata log between two snapshots.
    pub(super) snapshot_entries: f64,
}

/// Objects of one kind and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Objects {
    pub(super) is_set: bool,
    /// Whether it was made of others.
    pub(super) is_joined: bool,
    /// Objects that follow each other are of one lane: those of a stream, or of the streams that share
    /// a set.
    pub(super) lanes: f64,
    pub(super) per_lane: f64,
    /// Streams in one.
    pub(super) streams: f64,
    /// Bytes of a stream in one, with what is around its entries.
    pub(super) stream_bytes: f64,
}

/// How objects become larger ones.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// So many sets to one, or to an object of each stream that has enough in them.
    Join(f64),
    /// So many sets to an object of each stream.
    Split(f64),
    /// So many objects of a stream to one.
    Grow(f64),
}

/// What a step of some kind takes in requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Taken {
    gets: f64,
    bytes_in: f64,
    creates: f64,
    /// Objects in parts: each is started and completed.
    in_parts: f64,
    parts: f64,
    copies: f64,
    bytes_out: f64,
    commits: f64,
}

impl Taken {
    fn times(self, times: f64) -> Self {
        Self {
            gets: self.gets * times,
            bytes_in: self.bytes_in * times,
            creates: self.creates * times,
            in_parts: self.in_parts * times,
            parts: self.parts * times,
            copies: self.copies * times,
            bytes_out: self.bytes_out * times,
            commits: self.commits * times,
        }
    }

    fn add(&mut self, other: &Self) {
        self.gets += other.gets;
        self.bytes_in += other.bytes_in;
        self.creates += other.creates;
        self.in_parts += other.in_parts;
        self.parts += other.parts;
        self.copies += other.copies;
        self.bytes_out += other.bytes_out;
        self.commits += other.commits;
    }
}

impl Rules {
    pub(super) fn of(tier: &TierConfig) -> Self {
        let compact = &tier.compact;
        let bytes = |bytes: u64| bytes as f64;
        Self {
            objects_min: compact.objects_min as f64,
            growth_min: bytes(compact.growth_min),
            object_bytes: bytes(compact.object_bytes),
            step_bytes: bytes(compact.step_bytes),
            read_bytes: bytes(compact.read_bytes),
            read_bytes_min: bytes(compact.read_bytes_min),
            copy_bytes: bytes(compact.copy_bytes),
            part_bytes: bytes(tier.upload.part_bytes),
            block_bytes: tier.block_bytes as f64,
            stream_object_bytes: bytes(tier.stream_object_bytes),
            split_window_bytes: bytes(compact.split_window_bytes),
            split_joined: compact.split_joined,
            split_read_bytes_min: bytes(compact.split_read_bytes_min),
            split_stream_bytes: bytes(tier.stream_object_bytes * compact.split_percent / 100),
            split_commit_bytes: bytes(compact.split_commit_bytes),
            snapshot_entries: bytes(tier.meta.snapshot_entries),
        }
    }

    /// The step that objects wait for; `None` if they stay as they are.
    fn step(&self, objects: &Objects) -> Option<Step> {
        if !objects.is_set {
            return self.join(objects, f64::INFINITY).map(Step::Grow);
        }
        if let Some(count) = self.split(objects) {
            return Some(Step::Split(count));
        }
        let sets_max = (self.step_bytes / self.read_bytes_min).floor();
        let sets_max = sets_max.max(self.objects_min);
        self.join(objects, sets_max).map(Step::Join)
    }

    /// How many sets are split together, if so many may wait.
    fn split(&self, sets: &Objects) -> Option<f64> {
        let enough = (self.split_stream_bytes / sets.stream_bytes)
            .ceil()
            .max(2.0);
        let sets_max = (self.step_bytes / self.split_read_bytes_min).floor();
        let may_split = self.split_joined || !sets.is_joined;
        let fits = may_split
            && enough <= sets_max
            && enough * sets.bytes(self) <= self.split_window_bytes
            && enough * sets.index_bytes(self) <= self.step_bytes / 4.0;
        fits.then_some(enough)
    }

    /// The least number of objects that are worth joining, `max` at most.
    fn join(&self, objects: &Objects, max: f64) -> Option<f64> {
        let (size, index) = (objects.bytes(self), objects.index_bytes(self));
        let index_max = self.step_bytes / 4.0;
        let mut count = 2.0;
        while count <= max && count * size <= self.object_bytes {
            if count * index > index_max && count > 2.0 {
                return None;
            }
            let is_crowded = count * index > index_max / 2.0;
            let is_full = is_crowded || count * size > self.object_bytes / 2.0;
            let growth_min = if is_crowded { 2.0 } else { self.growth_min };
            if (count >= self.objects_min || is_full) && count >= growth_min {
                return Some(count);
            }
            count += 1.0;
        }
        None
    }

    /// Whether the store copies stretches of so many bytes in blocks of such a size.
    fn may_copy(&self, data: f64, block: f64) -> bool {
        self.copy_bytes > 0.0 && data >= COPY_BYTES_MIN && block >= self.block_bytes / 2.0
    }

    /// An object that goes in parts if it is larger than so much.
    fn send(&self, num_bytes: f64, in_parts_above: f64, taken: &mut Taken) {
        taken.bytes_out += num_bytes;
        if num_bytes > in_parts_above {
            taken.in_parts += 1.0;
            taken.parts += (num_bytes / self.part_bytes).ceil();
        } else {
            taken.creates += 1.0;
        }
    }
}

impl Objects {
    /// Bytes of one.
    fn bytes(&self, rules: &Rules) -> f64 {
        HEADER_BYTES + self.streams * self.stream_bytes + self.index_bytes(rules)
    }

    fn blocks(&self, rules: &Rules) -> f64 {
        self.streams * (self.stream_bytes / rules.block_bytes).ceil()
    }

    fn index_bytes(&self, rules: &Rules) -> f64 {
        self.blocks(rules) * ROW_BYTES + FOOTER_BYTES
    }

    /// Bytes of a block of one.
    fn block_bytes(&self, rules: &Rules) -> f64 {
        self.streams * self.stream_bytes / self.blocks(rules)
    }
}

/// Adds what becomes of uploaded objects.
pub(super) fn add(uploaded: Objects, rules: &Rules, usage: &mut Usage) {
    let mut objects = uploaded;
    while let Some(step) = rules.step(&objects) {
        let Some((steps, made)) = made(step, &objects, rules) else {
            return;
        };
        let taken = match step {
            Step::Join(count) | Step::Split(count) => {
                rewritten(step, count, &objects, &made, rules)
            }
            Step::Grow(count) => grown(count, &objects, &made, rules),
        };
        let (Step::Join(count) | Step::Split(count) | Step::Grow(count)) = step;
        count_in(
            usage,
            steps,
            count,
            (objects.streams, made.lanes * made.per_lane / steps),
            &taken,
            rules,
        );
        objects = made;
    }
}

/// How many steps there are, and what they make of the objects; `None` if these are too few for one.
fn made(step: Step, objects: &Objects, rules: &Rules) -> Option<(f64, Objects)> {
    let (Step::Join(count) | Step::Split(count) | Step::Grow(count)) = step;
    let per_lane = (objects.per_lane / count).floor();
    let stream_bytes = count * objects.stream_bytes;
    let stays_a_set = match step {
        Step::Join(_) => stream_bytes < rules.stream_object_bytes,
        Step::Split(_) | Step::Grow(_) => false,
    };
    let (lanes, streams) = match stays_a_set {
        true => (objects.lanes, objects.streams),
        false => (objects.lanes * objects.streams, 1.0),
    };
    (per_lane > 0.0).then_some((
        per_lane * objects.lanes,
        Objects {
            is_set: stays_a_set,
            is_joined: true,
            lanes,
            per_lane,
            streams,
            stream_bytes,
        },
    ))
}

/// Sets are read side by side and written anew.
fn rewritten(step: Step, count: f64, sets: &Objects, made: &Objects, rules: &Rules) -> Taken {
    let outputs = if made.is_set { 1.0 } else { sets.streams };
    let (size, block) = (sets.bytes(rules), sets.block_bytes(rules));
    let splits = matches!(step, Step::Split(_));
    let mut taken = Taken::default();
    if splits && rules.may_copy(sets.stream_bytes, block) {
        let read_bytes = rules.step_bytes.min(rules.read_bytes);
        taken = strung(count, sets, made, read_bytes, rules).times(outputs);
    } else {
        let mut one = Taken::default();
        let in_parts_above = if made.is_set { 1.0 } else { 2.0 } * rules.part_bytes;
        rules.send(made.bytes(rules), in_parts_above, &mut one);
        taken.add(&one.times(outputs));
        let each = (rules.step_bytes / count).min(rules.read_bytes);
        taken.bytes_in += count * sets.streams * sets.stream_bytes;
        if splits {
            // Neighbouring streams, as many as memory holds.
            let neighbours = (rules.step_bytes / made.stream_bytes).floor().max(1.0);
            let at_once = (neighbours * sets.stream_bytes / rules.read_bytes).ceil();
            taken.gets += count * (sets.streams / neighbours).ceil() * at_once;
        } else if size > each {
            // A request brings whole blocks.
            let at_once = ((each / block).floor() * block).max(block);
            taken.gets += count * (sets.streams * sets.stream_bytes / at_once).ceil();
        }
    }
    // With the index comes all of a small one.
    taken.gets += count;
    taken.bytes_in += count * sets.index_bytes(rules);
    prove(outputs, made, rules, &mut taken);
    taken.commits = match splits {
        true => (outputs * made.bytes(rules) / rules.split_commit_bytes).ceil(),
        false => 1.0,
    };
    taken
}

/// The index of each object is read back.
fn prove(outputs: f64, made: &Objects, rules: &Rules, taken: &mut Taken) {
    taken.gets += outputs;
    taken.bytes_in += outputs * made.index_bytes(rules);
}

/// Objects of one stream become one.
fn grown(count: f64, objects: &Objects, made: &Objects, rules: &Rules) -> Taken {
    let first_read = (rules.step_bytes / count).min(rules.read_bytes);
    let mut taken = Taken::default();
    if objects.bytes(rules) <= first_read {
        rules.send(made.bytes(rules), 2.0 * rules.part_bytes, &mut taken);
        taken.bytes_in = count * objects.stream_bytes;
    } else {
        let read_bytes = rules.step_bytes.min(rules.read_bytes);
        taken = strung(count, objects, made, read_bytes, rules);
    }
    taken.gets += count;
    taken.bytes_in += count * objects.index_bytes(rules);
    prove(1.0, made, rules, &mut taken);
    taken.commits = 1.0;
    taken
}

/// Stretches of one stream, one behind the other. The store copies what it can: one that is large enough, at
/// a place where a part may end.
fn strung(count: f64, objects: &Objects, made: &Objects, read_bytes: f64, rules: &Rules) -> Taken {
    let (data, block) = (objects.stream_bytes, objects.block_bytes(rules));
    let may_copy = rules.may_copy(data, block);
    let mut taken = Taken::default();
    // Of the object in the making what was not sent yet.
    let mut pending = HEADER_BYTES;
    let mut left = count;
    while left >= 1.0 {
        left -= 1.0;
        let mut rest = data;
        while rest > 0.0 {
            let is_an_end = pending == 0.0 || pending >= COPY_BYTES_MIN;
            if may_copy && is_an_end && rest >= COPY_BYTES_MIN {
                taken.parts += if pending > 0.0 { 1.0 } else { 0.0 };
                taken.bytes_out += pending;
                let copies = (rest / rules.copy_bytes).ceil();
                taken.copies += copies;
                // The first block and the last of each are looked at.
                taken.gets += 2.0 * copies;
                taken.bytes_in += 2.0 * copies * block;
                (pending, rest) = (0.0, 0.0);
                continue;
            }
            // A request brings whole blocks.
            let at_once = ((read_bytes / (block + BLOCK_BYTES)).floor() * block).max(block);
            let read = rest.min(at_once);
            rest -= read;
            pending += read;
            taken.gets += 1.0;
            taken.bytes_in += read;
            if may_copy || made.bytes(rules) > 2.0 * rules.part_bytes {
                let full = ((pending / rules.part_bytes).ceil() - 1.0).max(0.0);
                taken.parts += full;
                taken.bytes_out += full * rules.part_bytes;
                pending -= full * rules.part_bytes;
            }
        }
    }
    let last = pending + made.index_bytes(rules);
    if taken.parts + taken.copies > 0.0 {
        taken.in_parts = 1.0;
        taken.parts += (last / rules.part_bytes).ceil();
        taken.bytes_out += last;
    } else {
        rules.send(last, 2.0 * rules.part_bytes, &mut taken);
    }
    taken
}

/// Counts `steps` alike: `count` sources each, of so many runs, and so many objects made.
fn count_in(
    usage: &mut Usage,
    steps: f64,
    count: f64,
    (runs, outputs): (f64, f64),
    taken: &Taken,
    rules: &Rules,
) {
    for (op, requests) in [
        ("get", taken.gets),
        ("create", taken.creates),
        ("start", taken.in_parts),
        ("part", taken.parts),
        ("copy", taken.copies),
        ("complete", taken.in_parts),
    ] {
        if requests > 0.0 {
            usage.add_requests(op, "compaction", steps * requests);
        }
    }
    usage.add_bytes("in", "compaction", steps * taken.bytes_in);
    usage.add_bytes("out", "compaction", steps * taken.bytes_out);
    // What was joined is deleted and forgotten; what was made will be deleted one day, too.
    let entries = taken.commits + (count / FORGOTTEN_AT_ONCE).ceil();
    usage.add_requests(
        "create",
        "meta",
        steps * entries * (1.0 + 1.0 / rules.snapshot_entries),
    );
    let commit = outputs * OBJECT_BYTES + runs * (RUN_BYTES + count * SOURCE_BYTES);
    usage.add_bytes("out", "meta", steps * (entries * COMMIT_BYTES + commit));
    usage.add_requests("delete", "gc", steps * outputs);
}

#[cfg(test)]
mod tests;
