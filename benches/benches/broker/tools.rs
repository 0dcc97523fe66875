//! Apache Kafka's own performance tools, and Apache Kafka itself, from Maven Central.
//!
//! *Owns*: their pinned version, fetching them once, running them, reading what they print.
//! *Does not own*: which broker they are pointed at.
//!
//! Invariants
//! 1. The same tool with the same settings measures every broker.
//! 2. Output that cannot be read is an error, never a zero.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tidewater_benches::Place;

use crate::Failure;

/// Of broker, tools and client alike.
pub(crate) const VERSION: &str = "4.3.1";
/// Bytes of a record's value.
pub(crate) const RECORD_BYTES: usize = 1024;
const HEAP: &str = "-Xmx512m";

/// The tools, fetched when they are first needed.
pub(crate) struct Tools {
    folder: PathBuf,
}

/// What ProducerPerformance says at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Produced {
    pub(crate) records_per_s: f64,
    pub(crate) percentiles_us: [f64; 3],
}

/// What ConsumerPerformance says at its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Consumed {
    /// Payload by the time spent fetching.
    pub(crate) mb_per_s: f64,
    /// From the start to the first assignment, in milliseconds.
    pub(crate) rebalance_ms: f64,
}

impl Tools {
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            folder: place.output.join("kafka-tools"),
        }
    }

    /// The class path of everything; asks Maven for it the first time.
    pub(crate) fn class_path(&self) -> Result<OsString, Failure> {
        let libraries = self.folder.join(VERSION);
        if !libraries.exists() {
            std::fs::create_dir_all(&self.folder)?;
            let project = self.folder.join("pom.xml");
            std::fs::write(&project, project_file())?;
            // Under another name until it is whole.
            let partial = self.folder.join(format!("{VERSION}.partial"));
            crate::remove(&partial)?;
            let mut output = OsString::from("-DoutputDirectory=");
            output.push(&partial);
            let plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.0";
            let status = Command::new("mvn")
                .args(["-q", "-B", "-Dstyle.color=never", "-f"])
                .arg(&project)
                .arg(format!("{plugin}:copy-dependencies"))
                .arg("-DincludeScope=runtime")
                .arg(output)
                .status()
                .map_err(|cause| format!("mvn: {cause}"))?;
            if !status.success() {
                return Err(format!("mvn: {status}").into());
            }
            std::fs::rename(&partial, &libraries)?;
        }
        Ok(libraries.join("*").into())
    }

    /// Produces `num_records` with acks=all, as fast as the tool can.
    pub(crate) fn produce(
        &self,
        address: SocketAddr,
        topic: &str,
        num_records: usize,
    ) -> Result<Produced, Failure> {
        let (records, size) = (num_records.to_string(), RECORD_BYTES.to_string());
        let server = address.to_string();
        let arguments = [
            "--topic",
            topic,
            "--num-records",
            &records,
            "--record-size",
            &size,
            "--throughput",
            "-1",
            "--bootstrap-server",
            &server,
            "--command-property",
            "acks=all",
        ];
        let output = self.run("org.apache.kafka.tools.ProducerPerformance", &arguments)?;
        produced(&output).ok_or_else(|| format!("ProducerPerformance said: {output}").into())
    }

    /// Consumes `num_records` from the start, as a group of its own.
    pub(crate) fn consume(
        &self,
        address: SocketAddr,
        topic: &str,
        num_records: usize,
    ) -> Result<Consumed, Failure> {
        let (records, server) = (num_records.to_string(), address.to_string());
        let arguments = [
            "--topic",
            topic,
            "--num-records",
            &records,
            "--bootstrap-server",
            &server,
            "--hide-header",
            "--timeout",
            "60000",
        ];
        let output = self.run("org.apache.kafka.tools.ConsumerPerformance", &arguments)?;
        consumed(&output, num_records)
            .ok_or_else(|| format!("ConsumerPerformance said: {output}").into())
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Result<String, Failure> {
        let output = Command::new("java")
            .args([HEAP, "-cp"])
            .arg(self.class_path()?)
            .arg(class)
            .args(arguments)
            .output()
            .map_err(|cause| format!("java: {cause}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{class}: {}\n{text}{errors}", output.status).into());
        }
        Ok(text)
    }
}

fn project_file() -> String {
    let dependency = |name: &str| {
        format!(
            "<dependency><groupId>org.apache.kafka</groupId><artifactId>{name}</artifactId>\
             <version>{VERSION}</version></dependency>\n"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>tidewater</groupId><artifactId>kafka-tools</artifactId><version>1</version>\n\
         <packaging>pom</packaging>\n<dependencies>\n{}{}</dependencies>\n</project>\n",
        dependency("kafka-tools"),
        dependency("kafka_2.13"),
    )
}

/// `500000 records sent, 81.3 records/sec (…), 3.2 ms avg latency, 9.0 ms max latency, 1 ms 50th,
/// 2 ms 95th, 3 ms 99th, 4 ms 99.9th.`
fn produced(output: &str) -> Option<Produced> {
    let line = output.lines().rfind(|line| line.contains("99.9th"))?;
    let before = |what: &str| -> Option<f64> {
        let part = line.split(", ").find(|part| part.contains(what))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let us = |what: &str| before(what).map(|ms| ms * 1000.0);
    Some(Produced {
        records_per_s: before("records/sec")?,
        percentiles_us: [us(" 50th")?, us(" 99th")?, us(" 99.9th")?],
    })
}

/// `start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s`,
/// where MB is 2^20 bytes. The line counts only if it tells of all records.
fn consumed(output: &str, num_records: usize) -> Option<Consumed> {
    let line = output
        .lines()
        .rfind(|line| line.split(", ").count() == 10)?;
    let field = |index: usize| line.split(", ").nth(index)?.trim().parse::<f64>().ok();
    let rebalance_ms = field(6)?;
    (field(4)? >= num_records as f64).then_some(())?;
    Some(Consumed {
        mb_per_s: field(8)? * f64::from(1 << 20) / 1e6,
        rebalance_ms,
    })
}
