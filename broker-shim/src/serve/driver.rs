//! Starting, running and stopping a broker.
//!
//! *Owns*: the order in which a broker claims its port, its directory, its bucket and its WAL, and
//! which exit code each refusal gets.
//! *Does not own*: what any of them checks.
//!
//! Invariants
//! 1. The port and the directory's lock are claimed before anything is read or written.
//! 2. The ready file appears after requests are answered and goes before the end.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process's driver"
)]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewater_stream_store::bucket::{self, BucketUrl, Metered};
use tidewater_stream_store::{
    CacheDisk, DeviceWalConfig, DeviceWalOpener, MemoryWalOpener, ObjectWalConfig, ObjectWalOpener,
    StoreConfig, StoreError, TierConfig, TokioEnv, WalOpener,
};
use tidewater_types::{Env, ErrorKind, NodeId};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::banner::{self, BannerFacts};
use crate::broker::{Facts, OpenError, Parts};
use crate::config::{HostPort, ServeConfig};
use crate::coordinator::OFFSETS_PARTITIONS;
use crate::embed::EmbeddedBroker;
use crate::exit::{Code, Exit};
use crate::net::{self, Limits};
use crate::ready::{self, ReadyFile};
use crate::signals::stop_on_signals;

mod choice;
mod datadir;
mod machine;

use choice::{Choice, WalKind};
use datadir::DataDir;
pub(crate) use datadir::LOCK_FILE;

/// Milliseconds an append waits for room before the client is told to retry.
const APPEND_WAIT_MS: u64 = 5_000;

/// Attempts at finding out what the store does, and the first pause between two; it grows.
const PROBE_ATTEMPTS: u32 = 8;
const PROBE_PAUSE: Duration = Duration::from_millis(200);

/// Runs a broker until it is told to stop or its storage fails.
pub(crate) async fn run(config: ServeConfig) -> Result<(), Exit> {
    let started = Instant::now();
    let environment = |cause: &dyn std::fmt::Display| Exit::because(Code::Environment, cause);
    machine::check(config.memory.budget)?;
    let bound = net::bind(&config.listen).map_err(|e| environment(&e))?;
    let choice = choice::choose(&config)?;
    let mut stop = stop_on_signals().map_err(|e| environment(&e))?;
    let env: Arc<dyn Env> = Arc::new(TokioEnv::current());
    let advertised = bound.advertised(config.advertise.as_ref());
    let listen = bound.local().to_string();
    let opened = tokio::select! {
        biased;
        // A bucket that does not answer, or a long recovery, is no reason not to go.
        _ = stop.wait_for(|stopping| *stopping) => None,
        opened = open(&config, &choice.wal, &env, &advertised) => Some(opened?),
    };
    let Some(broker) = opened else {
        info!("stopped before it was open");
        return Ok(());
    };
    if let Some(report) = broker.store().recovery_report() {
        info!("{report}");
    }
    let limits = limits(&config);
    let listener = bound.accepting().map_err(|e| environment(&e))?;
    let (stopping, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = tokio::spawn(broker.serve(listener, limits, stopped));
    let facts = ready::Facts {
        pid: std::process::id(),
        listen,
        node_id: config.node_id,
        cluster_id: broker.store().cluster_id().to_string(),
        wal: broker.store().describe_wal(),
        bucket: config.bucket.to_string(),
        start_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let files = announce(&config, choice.data_dir.as_ref(), &facts)?;
    eprint!("{}", greeting(&choice, &facts, &advertised.to_string()));

    let failure = tokio::select! {
        biased;
        _ = stop.wait_for(|stopping| *stopping) => None,
        failure = broker.failed() => Some(failure),
    };
    for file in files {
        if let Err(error) = file.remove() {
            warn!(%error, "a file of this broker stays behind");
        }
    }
    drop(stopping);
    if let Err(error) = serving.await {
        warn!(%error, "the listener failed");
    }
    if let Some(failure) = failure {
        return Err(exit_of_store(&failure));
    }
    broker
        .close()
        .await
        .map_err(|failure| exit_of_store(&failure))?;
    info!("stopped");
    Ok(())
}

fn limits(config: &ServeConfig) -> Limits {
    let network = usize::try_from(config.memory.network).unwrap_or(usize::MAX);
    Limits {
        connections_max: config.max_connections,
        frame_bytes_max: config.max_request_bytes,
        in_flight_bytes_max: network / 2,
        total_bytes_max: network,
        ..Limits::default()
    }
}

/// The words a broker begins with.
fn greeting(choice: &Choice, facts: &ready::Facts, advertised: &str) -> String {
    banner::text(&BannerFacts {
        listen: &facts.listen,
        advertised,
        node_id: facts.node_id,
        cluster_id: &facts.cluster_id,
        bucket: &facts.bucket,
        wal: &facts.wal,
        wal_reason: choice.reason,
        durable: choice.wal != WalKind::Memory,
        start_ms: facts.start_ms,
    })
}

async fn open(
    config: &ServeConfig,
    wal: &WalKind,
    env: &Arc<dyn Env>,
    advertised: &HostPort,
) -> Result<EmbeddedBroker, Exit> {
    let (url, options) = (config.bucket.clone(), config.bucket_options.clone());
    let opened = tokio::task::spawn_blocking(move || bucket::open(&url, &options)).await;
    let opened = opened.expect("opening a bucket does not panic");
    let bucket = opened.map_err(|e| Exit::because(Code::Environment, e))?;
    let bucket = Arc::new(Metered::new(bucket));
    probe(config, &bucket, env.as_ref()).await?;
    let parts = Parts {
        env: Arc::clone(env),
        bucket: Arc::clone(&bucket),
        wal: wal_opener(config, wal, bucket, env)?,
        device_wal: match wal {
            WalKind::Device(path) => Some(path.clone()),
            WalKind::Object | WalKind::Memory => None,
        },
        config: store_config(config),
        facts: Facts {
            node_id: i32::try_from(config.node_id).expect("the range fits"),
            host: advertised.host.clone(),
            port: advertised.port,
            cluster_id: String::new(),
            response_bytes_max: usize::try_from(config.memory.network / 8).unwrap_or(usize::MAX),
            default_partitions: i32::try_from(config.default_partitions).expect("the range fits"),
            offsets_partitions: OFFSETS_PARTITIONS,
            auto_create_topics: config.auto_create_topics,
        },
    };
    // Before anything is written: a cache in use is a sign of a second broker.
    let cache = cache_file(config)?;
    let broker = EmbeddedBroker::open(parts)
        .await
        .map_err(|error| match error {
            OpenError::Store(failure) => exit_of_store(&failure),
            OpenError::Topic { ref cause, .. } if cause.is_newer() => {
                Exit::because(Code::Foreign, error)
            }
            OpenError::Topic { .. } => Exit::because(Code::Damage, error),
        })?;
    if let Some(cache) = cache {
        broker.store().attach_cache(cache);
    }
    Ok(broker)
}

/// The cache on a disk, if one was asked for. Bad usage is refused: a file that another process
/// uses, a folder that is none. Whatever else is wrong with that disk costs the cache, not the start.
fn cache_file(config: &ServeConfig) -> Result<Option<Arc<dyn CacheDisk>>, Exit> {
    let Some((folder, num_bytes)) = &config.disk_cache else {
        return Ok(None);
    };
    let path = folder.join("blocks.cache");
    let created = std::fs::create_dir_all(folder);
    let opened = created.and_then(|()| <dyn CacheDisk>::open(&path, *num_bytes));
    let cause = match opened {
        Ok(disk) => return Ok(Some(disk)),
        Err(cause) => cause,
    };
    let is_usage = match cause.kind() {
        io::ErrorKind::ResourceBusy => true,
        _ => folder.exists() && !folder.is_dir(),
    };
    if is_usage {
        let expected = "a folder with a file for the cache that no other process uses";
        let (what, place) = ("cannot open the cache", path.display());
        return Err(Exit::new(Code::Environment, what, place, expected, cause));
    }
    warn!(
        "cannot open the cache {}: {cause}; this broker runs without it",
        path.display()
    );
    Ok(None)
}

/// A store that replaces what it must not is found out before anything is trusted to it. Ours need
/// no proof.
async fn probe(config: &ServeConfig, bucket: &Metered, env: &dyn Env) -> Result<(), Exit> {
    if !matches!(config.bucket, BucketUrl::S3 { .. }) {
        return Ok(());
    }
    let store = match &config.bucket_options.endpoint {
        Some(endpoint) => format!("{} at {endpoint}", config.bucket),
        None => config.bucket.to_string(),
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let nonce = env.random("serve: probe of the store");
        match bucket::probe(bucket, &store, nonce).await {
            Ok(false) => return Ok(()),
            Ok(true) => {
                info!("{store} was probed: it creates only what is absent");
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Retry && attempts < PROBE_ATTEMPTS => {
                env.sleep(PROBE_PAUSE * attempts).await;
            }
            Err(error) => return Err(Exit::because(Code::Environment, error)),
        }
    }
}

fn wal_opener(
    config: &ServeConfig,
    wal: &WalKind,
    bucket: Arc<Metered>,
    env: &Arc<dyn Env>,
) -> Result<Box<dyn WalOpener>, Exit> {
    let env = Arc::clone(env);
    let path = match wal {
        WalKind::Memory => {
            // What it holds is what waits for its upload.
            let capacity_bytes = config.wal_bytes.min(config.memory.waiting);
            let capacity_bytes = usize::try_from(capacity_bytes).unwrap_or(usize::MAX);
            return Ok(Box::new(MemoryWalOpener {
                capacity_bytes,
                reserve_ms_max: APPEND_WAIT_MS,
                env,
            }));
        }
        WalKind::Object => {
            return Ok(Box::new(ObjectWalOpener {
                bucket,
                node: NodeId(config.node_id),
                config: ObjectWalConfig {
                    pool_bytes: config.memory.wal_pool,
                    reserve_ms_max: APPEND_WAIT_MS,
                    ..ObjectWalConfig::default()
                },
                env,
            }));
        }
        WalKind::Device(path) => path.clone(),
    };
    if let Some(parent) = path.parent() {
        create_dir(&parent.to_path_buf())?;
    }
    let device = DeviceWalConfig {
        capacity_bytes: config.wal_bytes,
        pool_bytes: config.memory.wal_pool,
        mode: config.wal_mode,
        reserve_ms_max: APPEND_WAIT_MS,
        ..DeviceWalConfig::default()
    };
    Ok(Box::new(DeviceWalOpener {
        path,
        config: device,
        env,
    }))
}

fn create_dir(path: &PathBuf) -> Result<(), Exit> {
    std::fs::create_dir_all(path).map_err(|cause| {
        let place = path.display();
        let expected = "a directory that can be written";
        Exit::new(
            Code::Environment,
            "cannot create a directory",
            place,
            expected,
            cause,
        )
    })
}

fn store_config(config: &ServeConfig) -> StoreConfig {
    let mut tier = TierConfig {
        delete_delay: config.delete_delay,
        upload_bytes: config.upload_bytes,
        upload_age: config.upload_interval,
        block_cache_bytes: config.memory.block_cache,
        index_cache_bytes: config.memory.index_cache,
        ..TierConfig::default()
    };
    tier.compact.step_bytes = config.memory.step_bytes();
    tier.upload.part_bytes = config.memory.part_bytes();
    tier.read.disk_waiting_bytes_max = config.memory.disk_waiting;
    tier.pace.requests_per_s = config.bucket_limits.requests_per_s;
    tier.pace.bytes_in_per_s = config.bucket_limits.bytes_in_per_s;
    tier.pace.bytes_out_per_s = config.bucket_limits.bytes_out_per_s;
    StoreConfig {
        node: NodeId(config.node_id),
        tier,
        waiting_bytes_max: config.memory.waiting,
        tail_cache_bytes_max: config.memory.tail_cache,
        append_wait_ms_max: APPEND_WAIT_MS,
        accept_data_loss: config.accept_data_loss,
        ..StoreConfig::default()
    }
}

/// The exit code of a store that cannot go on.
pub(crate) fn exit_of_store(failure: &StoreError) -> Exit {
    let code = if failure.is_foreign() {
        Code::Foreign
    } else if failure.is_damage() {
        Code::Damage
    } else {
        match failure.kind() {
            ErrorKind::Invalid => Code::Usage,
            ErrorKind::Corrupt => Code::Damage,
            _ => Code::Environment,
        }
    };
    Exit::because(code, failure)
}

/// Writes the files that say where the broker answers.
fn announce(
    config: &ServeConfig,
    data_dir: Option<&DataDir>,
    facts: &ready::Facts,
) -> Result<Vec<ReadyFile>, Exit> {
    let own = data_dir.map(|dir| dir.path().join(ready::BROKER_FILE));
    own.into_iter()
        .chain(config.ready_file.clone())
        .map(|path| ReadyFile::write(&path, facts).map_err(|e| Exit::because(Code::Environment, e)))
        .collect()
}
