//! The brokers that are measured, and how each is started.
//!
//! *Owns*: building `tidewater`, the command lines, Apache Kafka's settings.
//! *Does not own*: running processes (`process.rs`), fetching Kafka (`tools.rs`).
//!
//! Invariants
//! 1. All brokers keep their data in folders beside each other, on the same file system.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tidewater_benches::Place;

use crate::Failure;
use crate::process::{Plan, Ready};
use crate::tools::{Tools, VERSION};

/// A product to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Tidewater,
    /// Apache Kafka as it comes: the page cache is written when the kernel pleases.
    Kafka,
    /// Apache Kafka that flushes every batch before it acknowledges it.
    KafkaFlush,
}

impl Product {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tidewater => "tidewater",
            Self::Kafka => "kafka-4.3.1",
            Self::KafkaFlush => "kafka-4.3.1-flush",
        }
    }
}

/// What is there to be measured.
pub(crate) struct Brokers {
    binary: PathBuf,
    pub(crate) tools: Tools,
    pub(crate) products: Vec<Product>,
}

impl Brokers {
    /// Builds `tidewater` (or takes `TIDEWATER_BINARY`), and sees which others are wanted.
    pub(crate) fn find(place: &Place) -> Result<Self, Failure> {
        let mut products = vec![Product::Tidewater];
        match std::env::var("TIDEWATER_BENCH_KAFKA").as_deref() {
            Err(_) | Ok("0" | "") => {}
            Ok("1") => products.push(Product::Kafka),
            Ok("all") => products.extend([Product::Kafka, Product::KafkaFlush]),
            Ok(other) => {
                return Err(format!("TIDEWATER_BENCH_KAFKA = {other}: expected 1 or all").into());
            }
        }
        let binary = match std::env::var_os("TIDEWATER_BINARY") {
            Some(path) => PathBuf::from(path),
            None => build(place)?,
        };
        Ok(Self {
            binary,
            tools: Tools::new(place),
            products,
        })
    }

    /// A plan for `product` with its data in `folder`, which holds no broker's data yet.
    pub(crate) fn plan(
        &self,
        product: Product,
        folder: &Path,
        more: &[&str],
    ) -> Result<Plan, Failure> {
        match product {
            Product::Tidewater => Ok(self.tidewater(folder, more)),
            Product::Kafka => self.kafka(product, folder, ""),
            Product::KafkaFlush => self.kafka(product, folder, "log.flush.interval.messages=1\n"),
        }
    }

    fn tidewater(&self, folder: &Path, more: &[&str]) -> Plan {
        let ready = folder.join("ready.json");
        let mut line: Vec<OsString> = vec![self.binary.clone().into(), "serve".into()];
        line.extend(["--listen", "127.0.0.1:0", "--log-level", "warn"].map(OsString::from));
        line.extend(["--data-dir".into(), folder.join("data").into()]);
        line.extend(["--ready-file".into(), ready.clone().into()]);
        line.extend(more.iter().map(OsString::from));
        Plan {
            name: Product::Tidewater.name(),
            line,
            log: folder.join("log"),
            ready: Ready::File(ready),
        }
    }

    fn kafka(&self, product: Product, folder: &Path, more: &str) -> Result<Plan, Failure> {
        let (address, controller) = (free_address()?, free_address()?);
        let settings = folder.join("server.properties");
        std::fs::write(&settings, kafka_settings(address, controller, folder, more))?;
        let classes = self.tools.class_path()?;
        let java = |heap: &str, class: &str| -> Vec<OsString> {
            let mut line: Vec<OsString> = vec!["java".into(), heap.into()];
            line.extend(["-cp".into(), classes.clone(), class.into()]);
            line
        };
        let mut format = java("-Xmx256m", "kafka.tools.StorageTool");
        format.extend(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"].map(OsString::from));
        format.push(settings.clone().into());
        let log = folder.join("log");
        let output = std::fs::File::create(&log)?;
        let status = Command::new(&format[0])
            .args(&format[1..])
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()?;
        if !status.success() {
            return Err(format!("StorageTool: {status}; see {}", log.display()).into());
        }
        let mut line = java("-Xmx1g", "kafka.Kafka");
        line.push(settings.into());
        Ok(Plan {
            name: product.name(),
            line,
            log,
            ready: Ready::Answer(address),
        })
    }
}

fn kafka_settings(
    address: SocketAddr,
    controller: SocketAddr,
    folder: &Path,
    more: &str,
) -> String {
    let data = folder.join("data");
    format!(
        "# Apache Kafka {VERSION}, one KRaft node\n\
         process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         {more}",
        data.display()
    )
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn build(place: &Place) -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(&place.root)
        .args(["build", "--quiet", "--release", "-p", "tidewater-broker"])
        .status()?;
    let target = place
        .output
        .parent()
        .ok_or("an output folder at the root")?;
    let binary = target.join("release").join("tidewater");
    if !status.success() || !binary.exists() {
        return Err(format!("building {}: {status}", binary.display()).into());
    }
    Ok(binary)
}
