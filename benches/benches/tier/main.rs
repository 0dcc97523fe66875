//! Benches of the object tier: reads, uploads, opening, compaction, each beside raw requests on the
//! same bucket.
//!
//! *Owns*: which parts run, and the exit code.
//! *Does not own*: what is measured; each part is a file of its own and stands in `PARTS`.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

#[cfg(feature = "uring")]
mod cache_disk;
mod cache_hit;
mod cold_read;
mod fill;
mod key_compaction;
mod metadata_commit;
mod open_stream;
mod part;
mod tail_with_cold_readers;
mod upload;

use std::process::ExitCode;

use tidewater_benches::{Options, Place, Row, print};

use crate::part::{Failure, Part, Plan, Rig};

/// The broker's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Every part. A new one is a file with a type that implements [`Part`], and a line here.
const PARTS: &[&dyn Part] = &[
    #[cfg(feature = "uring")]
    &cache_disk::CacheDiskReads,
    &cache_hit::CacheHit,
    &cold_read::ColdRead,
    &key_compaction::KeyCompaction,
    &metadata_commit::MetadataCommit,
    &open_stream::OpenStream,
    &tail_with_cold_readers::TailWithColdReaders,
    &upload::Upload,
];

fn main() -> ExitCode {
    let options = match Options::of_process() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench tier: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench tier: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let plan = Plan::of(options)?;
    let wanted: Vec<_> = PARTS
        .iter()
        .flat_map(|part| part.ids().into_iter().map(move |id| (*part, id)))
        .filter(|(_, id)| options.wants(id))
        .collect();
    if options.list {
        wanted.iter().for_each(|(_, id)| println!("{id}"));
        return Ok(());
    }
    let place = Place::find()?;
    let mut rig = Rig::new(plan, &place)?;
    println!("{}", place.headline(rig.scratch.path()));
    println!(
        "{} rounds, {} MiB, slices of {} ms",
        plan.rounds,
        plan.num_bytes >> 20,
        plan.slice.as_millis()
    );
    let mut rows = Vec::new();
    for (part, id) in wanted {
        println!("{id}");
        rows.extend(part.run(&id, &mut rig)?);
    }
    print(&rows);
    println!("{}", rig.quiet.verdict());
    println!("written to {}", Row::publish(&rows, &place)?.display());
    Ok(())
}
