//! An inspection says what opening says, whatever is on the disk.
//!
//! *IO: none*

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidewater_types::{Lsn, crc32c};

use super::pass::{Place, look};
use super::views::{SegmentState, Verdict};
use super::{Found, Inspection};
use crate::format::group::{GroupHeader, decode};
use crate::format::superblock::{RING_POSITION, SLOT_BYTES, SLOT_POSITIONS, Superblock, choose};
use crate::io::DiskIo;
use crate::port::{Frame, Wal};
use crate::testing::env::{Rng, TestEnv};
use crate::testing::frame_bytes;
use crate::testing::lives::{identity, open};
use crate::testing::model::Model;
use crate::{DeviceWal, DeviceWalConfig, Identity, OpenMode, WalError};

const BLOCK: usize = 4096;
const PLACE: Place = Place {
    block_device: false,
    in_use: false,
};

/// The disk under a WAL that lives several times.
struct World {
    env: TestEnv,
    model: Model,
}

impl World {
    fn new() -> Self {
        let model = Model::new(1);
        let env = TestEnv::default();
        Self { env, model }
    }

    fn open(&self, mode: OpenMode) -> DeviceWal {
        let config = DeviceWalConfig::tiny();
        self.env
            .run(open(&self.model, &self.env, config, mode))
            .unwrap()
            .0
    }

    fn append(&self, wal: &DeviceWal, number: u64, num_bytes: usize) -> Lsn {
        self.env.run(async {
            let permit = wal.reserve(num_bytes).await.unwrap();
            let frame = Frame::from(frame_bytes(number, num_bytes));
            wal.append(permit, frame).unwrap().await.unwrap()
        })
    }

    fn kill(&self, wal: DeviceWal) {
        self.env.kill();
        self.model.kill();
        drop(wal);
    }

    fn inspect(&self) -> Inspection {
        inspect(&self.model, &self.env, &mut |_| ControlFlow::Continue(()))
    }
}

fn inspect(
    model: &Model,
    env: &TestEnv,
    on_found: &mut (dyn FnMut(Found) -> ControlFlow<()> + Send),
) -> Inspection {
    env.run(look(&mut DiskIo::new(model.disk()), PLACE, on_found))
}

/// Disks as they are found after a kill, a clean end, a lap of the ring, several lives.
static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let world = World::new();
    let mut images = Vec::new();
    let wal = world.open(OpenMode::Create);
    for n in 0..10 {
        world.append(&wal, n, 3000);
    }
    world.kill(wal);
    images.push(world.model.image());
    let wal = world.open(OpenMode::Existing);
    for n in 0..5 {
        world.append(&wal, n, 300);
    }
    world.env.pass(Duration::from_millis(10));
    world.kill(wal);
    images.push(world.model.image());
    let wal = world.open(OpenMode::Existing);
    for n in 0..150 {
        let lsn = world.append(&wal, n, 6000);
        if n % 10 == 9 {
            wal.trim(lsn);
        }
    }
    world.kill(wal);
    images.push(world.model.image());
    let wal = world.open(OpenMode::Existing);
    for n in 0..3 {
        let lsn = world.append(&wal, n, 20_000);
        wal.trim(lsn);
    }
    world.env.run(wal.close()).unwrap();
    images.push(world.model.image());
    images
});

/// Whose WAL it is, as far as that can be read.
fn owner(image: &[u8]) -> Identity {
    let slots = SLOT_POSITIONS.map(|position| {
        let from = (position as usize).min(image.len());
        let to = (from + SLOT_BYTES).min(image.len());
        Superblock::decode(&image[from..to], position)
    });
    match choose(&slots).map(|slot| slots[slot].as_ref().unwrap()) {
        None => identity(),
        Some(content) => Identity {
            cluster: content.cluster,
            node: content.node,
            wal: None,
        },
    }
}

/// Opens a copy of `image` and compares what that says with what an inspection says.
fn agree(image: &[u8]) -> Inspection {
    let env = TestEnv::default();
    let model = Model::of(image.to_vec(), Rng(7));
    let mut frames = Vec::new();
    let inspection = inspect(&model, &env, &mut |found| {
        if let Found::Frame { lsn, bytes } = found {
            frames.push((lsn, bytes));
        }
        ControlFlow::Continue(())
    });
    assert!(model.image() == image, "an inspection changes nothing");
    let recovered = Arc::new(Mutex::new(Vec::new()));
    let sink = recovered.clone();
    let opened = env.run(DeviceWal::open_on(
        model.disk(),
        Arc::new(env.clone()),
        DeviceWalConfig::tiny(),
        owner(image),
        OpenMode::Existing,
        move |lsn, frame| sink.lock().push((lsn, frame)),
    ));
    match (opened, inspection.refusal()) {
        (Err(opening), Some(inspected)) => assert_eq!(opening.to_string(), inspected.to_string()),
        (Ok((_, report)), None) => {
            let recovered = std::mem::take(&mut *recovered.lock());
            let walk = inspection.walk.unwrap();
            let marks = inspection.watermarks.unwrap();
            assert_eq!(recovered, frames);
            assert_eq!(report.stop_position, walk.stop_position);
            assert_eq!(report.stop_reason, walk.stop_reason);
            assert_eq!(
                (report.end.0, report.num_bytes),
                (marks.end, walk.group_bytes)
            );
            assert_eq!(report.damaged_slot, inspection.damaged_slot());
            assert_eq!(report.sealed, marks.durable == marks.end && report.sealed);
            let sealed = inspection.verdict == Verdict::Clean;
            assert_eq!(report.sealed && report.damaged_slot.is_none(), sealed);
        }
        (opened, inspected) => panic!("opened: {opened:?}; inspected: {inspected:?}"),
    }
    // Both forms exist for whatever there is.
    assert!(format!("{inspection:#}").contains("verdict"));
    inspection
}

#[test]
fn what_a_kill_a_clean_end_and_a_lap_leave_is_fine() {
    let verdicts = IMAGES.iter().map(|image| agree(image).verdict);
    let verdicts: Vec<_> = verdicts.collect();
    assert_eq!(verdicts[..2], [Verdict::Open, Verdict::Open]);
    assert!(matches!(verdicts[2], Verdict::Open | Verdict::TornTail));
    assert_eq!(verdicts[3], Verdict::Clean);
}

#[test]
fn segments_are_told_apart() {
    let inspection = agree(&IMAGES[3]);
    let segments = inspection.segments.as_ref().unwrap();
    let listed = |state| {
        let of = segments
            .list
            .iter()
            .filter(|segment| segment.state == state);
        of.count() as u32
    };
    assert!(segments.chain >= 1 && segments.free >= 1, "{segments:?}");
    assert_eq!(segments.chain, listed(SegmentState::Chain));
    assert_eq!(segments.free, listed(SegmentState::Free));
    let all = [segments.chain, segments.next, segments.free, segments.blank];
    assert_eq!(all.iter().sum::<u32>(), segments.existing);
    let fresh = World::new();
    let wal = fresh.open(OpenMode::Create);
    fresh.append(&wal, 1, 100);
    fresh.env.pass(Duration::from_millis(10));
    fresh.kill(wal);
    let segments = fresh.inspect().segments.unwrap();
    let states = (segments.chain, segments.next, segments.blank);
    assert_eq!((segments.existing, states), (2, (1, 1, 0)), "{segments:?}");
}

#[test]
fn a_torn_tail_is_fine_and_damage_in_front_of_a_durable_point_is_named() {
    let groups = groups(&IMAGES[0]);
    let mut torn = IMAGES[0].clone();
    let (last, _) = groups[groups.len() - 1];
    torn[last + 90] ^= 1;
    let inspection = agree(&torn);
    assert_eq!(inspection.verdict, Verdict::TornTail);
    assert_eq!(inspection.walk.unwrap().stop_position, last as u64);

    let mut damaged = IMAGES[0].clone();
    let (place, header) = groups[4];
    damaged[place + 90] ^= 1;
    let inspection = agree(&damaged);
    assert_eq!(inspection.verdict, Verdict::Refused);
    let refusal = inspection.refusal.as_ref().unwrap();
    assert_eq!(refusal.error, "corrupt");
    assert_eq!(refusal.position, Some(place as u64));
    assert_eq!(refusal.lsn, Some(header.lsn.0));
    assert_eq!(refusal.found.as_deref(), Some("checksum mismatch"));
    assert!(refusal.expected.as_ref().unwrap().contains("durable"));
}

#[test]
fn superblocks_are_shown_damaged_or_not() {
    for slot in [0, 1] {
        let mut image = IMAGES[0].clone();
        image[SLOT_POSITIONS[slot] as usize + 40] ^= 1;
        let inspection = agree(&image);
        assert_eq!(inspection.damaged_slot(), Some(slot));
        assert_eq!(inspection.verdict, Verdict::SlotDamaged);
        assert_eq!(inspection.slots[slot].flaw, Some("checksum mismatch"));
        assert!(inspection.slots[1 - slot].speaks);
    }
    let mut image = IMAGES[0].clone();
    image[40] ^= 1;
    image[SLOT_BYTES + 40] ^= 1;
    let refusal = agree(&image).refusal.unwrap();
    assert_eq!(refusal.error, "superblocks_damaged");
    for image in [vec![0; 100_000], b"# notes\n".repeat(20_000), vec![7]] {
        assert_eq!(agree(&image).refusal.unwrap().error, "not_a_wal");
    }
    assert_eq!(agree(&[]).refusal.unwrap().error, "empty");
}

#[test]
fn a_newer_version_is_refused_where_it_stands() {
    let mut image = IMAGES[0].clone();
    image[8] = 2;
    reseal_slot(&mut image, 0);
    assert_eq!(agree(&image).refusal.unwrap().error, "newer_format");
    let mut image = IMAGES[0].clone();
    let (place, header) = groups(&image)[3];
    image[place + 4] = 2;
    reseal_group(&mut image, place, header.num_bytes());
    let inspection = agree(&image);
    assert_eq!(inspection.refusal.as_ref().unwrap().error, "newer_format");
    let segments = inspection.segments.unwrap();
    assert_eq!(segments.list[0].groups, 3, "what was walked is shown");
}

#[test]
fn a_reader_that_had_enough_gets_no_verdict() {
    let model = Model::of(IMAGES[0].clone(), Rng(1));
    let mut seen = 0;
    let inspection = inspect(&model, &TestEnv::default(), &mut |_| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((seen, inspection.verdict), (3, Verdict::Partial));
    assert!(inspection.watermarks.is_none());
}

#[test]
fn a_wal_without_room_for_an_epoch_is_refused_as_opening_does() {
    let world = World::new();
    let wal = world.open(OpenMode::Create);
    world.append(&wal, 1, 100);
    world.kill(wal);
    let mut image = world.model.image();
    let full = |content: &mut Superblock| {
        let first = content.epochs[0];
        let count = crate::format::superblock::EPOCHS_MAX as u64;
        // As if every life had added a byte and then one epoch were to come.
        content.epochs = (1..=count)
            .map(|n| crate::format::superblock::EpochStart {
                epoch: tidewater_types::Epoch(n),
                lsn: Lsn(n - 1),
                ..first
            })
            .collect();
        content.trim.epoch = tidewater_types::Epoch(count);
        content.trim.group_lsn = Lsn(0);
    };
    change_superblocks(&mut image, full);
    agree(&image);
    change_superblocks(&mut image, |content| {
        let last = content.epochs.len() - 1;
        content.epochs[last].epoch = tidewater_types::Epoch(u64::MAX);
        content.epochs.drain(..last);
        content.trim.epoch = tidewater_types::Epoch(u64::MAX);
        content.trim.lsn = Lsn(0);
    });
    agree(&image);
}

/// Applies `change` to both slots under right checksums.
fn change_superblocks(image: &mut [u8], change: impl Fn(&mut Superblock)) {
    for position in SLOT_POSITIONS {
        let at = position as usize;
        let mut content = Superblock::decode(&image[at..at + SLOT_BYTES], position).unwrap();
        change(&mut content);
        let bytes = content.encode(position);
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

fn reseal_slot(image: &mut [u8], slot: usize) {
    let at = SLOT_POSITIONS[slot] as usize;
    let length = u32::from_le_bytes(image[at + 12..at + 16].try_into().unwrap()) as usize;
    if (8..=SLOT_BYTES).contains(&length) {
        let checksum = crc32c(&[&image[at..at + length - 4]]);
        image[at + length - 4..at + length].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn reseal_group(image: &mut [u8], at: usize, num_bytes: usize) {
    let end = (at + num_bytes).min(image.len());
    let checksum = crc32c(&[&image[at..at + 8], &image[at + 12..end]]);
    image[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
}

/// Every group that lies in the ring, wanted or not.
fn groups(image: &[u8]) -> Vec<(usize, GroupHeader)> {
    let blocks = (RING_POSITION as usize..image.len()).step_by(BLOCK);
    let group = |at: usize| Some((at, decode(&image[at..]).ok()?));
    blocks.filter_map(group).collect()
}

/// One thing that goes wrong. Places are drawn as numbers and folded into what is there.
#[derive(Clone, Debug)]
enum Harm {
    Flip(usize),
    FlipInSlots(usize),
    FlipInGroup(usize, usize),
    Truncate(usize),
    Blank(usize, usize),
    Move(usize, usize),
    SealedSlotField(usize, usize, u8),
    SealedGroupField(usize, usize, u8),
}

impl Harm {
    fn apply(&self, image: &mut Vec<u8>) {
        let groups = groups(image);
        let group = |n: usize| (!groups.is_empty()).then(|| groups[n % groups.len()]);
        let num_bytes = image.len().max(1);
        match *self {
            Self::Flip(at) => image[at % num_bytes] ^= 1 << (at % 8),
            Self::FlipInSlots(at) => image[at % (2 * SLOT_BYTES)] ^= 1 << (at % 8),
            Self::FlipInGroup(n, at) => {
                if let Some((place, _)) = group(n) {
                    image[place + at % 100] ^= 1 << (at % 8);
                }
            }
            Self::Truncate(at) => image.truncate((at % num_bytes).max(2 * SLOT_BYTES)),
            Self::Blank(at, count) => {
                let from = at % num_bytes / BLOCK * BLOCK;
                let to = (from + count * BLOCK).min(image.len());
                image[from..to].fill(0);
            }
            Self::Move(from, to) => {
                if let (Some((from, _)), Some((to, _))) = (group(from), group(to)) {
                    let count = BLOCK.min(image.len() - from.max(to));
                    image.copy_within(from..from + count, to);
                }
            }
            Self::SealedSlotField(slot, at, value) => {
                image[SLOT_POSITIONS[slot % 2] as usize + at % 256] = value;
                reseal_slot(image, slot % 2);
            }
            Self::SealedGroupField(n, at, value) => {
                if let Some((place, header)) = group(n) {
                    image[place + at % 80] = value;
                    reseal_group(image, place, header.num_bytes());
                }
            }
        }
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    let n = || any::<usize>();
    prop_oneof![
        n().prop_map(Harm::Flip),
        n().prop_map(Harm::FlipInSlots),
        (n(), n()).prop_map(|(group, at)| Harm::FlipInGroup(group, at)),
        n().prop_map(Harm::Truncate),
        (n(), 1..20usize).prop_map(|(at, count)| Harm::Blank(at, count)),
        (n(), n()).prop_map(|(from, to)| Harm::Move(from, to)),
        (n(), n(), any::<u8>()).prop_map(|(s, at, value)| Harm::SealedSlotField(s, at, value)),
        (n(), n(), any::<u8>()).prop_map(|(g, at, value)| Harm::SealedGroupField(g, at, value)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_goes_wrong_an_inspection_says_what_opening_says(
        image in 0..4usize,
        harms in proptest::collection::vec(harm(), 1..4),
    ) {
        let mut image = IMAGES[image].clone();
        harms.iter().for_each(|harm| harm.apply(&mut image));
        agree(&image);
    }
}

#[test]
fn the_names_in_the_json_are_the_documented_ones() {
    let mut image = IMAGES[3].clone();
    image[40] ^= 1;
    let inspection = agree(&image);
    let names = |value: serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let json = serde_json::to_value(&inspection).unwrap();
    let page = include_str!("../../../docs/wal-tools.md");
    let mut all = names(json.clone());
    for part in ["superblock", "watermarks", "walk", "segments"] {
        all.extend(names(json[part].clone()));
    }
    all.extend(names(json["slots"][0].clone()));
    all.extend(names(json["segments"]["list"][0].clone()));
    all.extend(names(json["superblock"]["epochs"][0].clone()));
    all.extend(names(json["superblock"]["trim"].clone()));
    for name in all {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn frames_are_bytes_of_the_log_and_none_below_the_trim_point() {
    let world = World::new();
    let wal = world.open(OpenMode::Create);
    let first = world.append(&wal, 1, 100);
    let second = world.append(&wal, 2, 200);
    wal.trim(second);
    world.env.run(wal.close()).unwrap();
    let mut frames: Vec<(Lsn, Bytes)> = Vec::new();
    let inspection = inspect(&world.model, &world.env, &mut |found| {
        if let Found::Frame { lsn, bytes } = found {
            frames.push((lsn, bytes));
        }
        ControlFlow::Continue(())
    });
    assert!(first < second);
    assert_eq!(frames, [(second, frame_bytes(2, 200))]);
    assert_eq!(inspection.watermarks.unwrap().trimmed, second.0);
    assert!(!matches!(
        inspection.refusal(),
        Some(WalError::Corrupt { .. })
    ));
}
