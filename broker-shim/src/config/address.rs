//! `HOST:PORT` as people write it.
//!
//! *Owns*: parsing and printing; which hosts are wildcards.
//! *Does not own*: resolving names.
//!
//! Invariants
//! 1. What is printed parses back to the same value.
//! 2. The host of an IPv6 address is held without brackets, as clients get it.
//!
//! *IO: none*

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// Reads `HOST:PORT`; an IPv6 address stands in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
                address.to_string()
            }
            None => plain_host(host)?.to_owned(),
        };
        Some(Self { host, port })
    }

    /// Whether it stands for every address of the host.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    }
}

fn plain_host(host: &str) -> Option<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let fits = (1..=253).contains(&host.len());
    (fits && host.bytes().all(allowed)).then_some(host)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HostPort;

    #[test]
    fn names_and_addresses_of_both_families_are_read_and_printed() {
        for text in [
            "127.0.0.1:9092",
            "localhost:0",
            "kafka-1.example.org:65535",
            "[::1]:9092",
        ] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HostPort::parse("[::1]:1").unwrap().host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "9092",
            ":9092",
            "localhost",
            "localhost:",
            "localhost:+1",
            "localhost:65536",
            "::1:9092",
            "[::1:9092",
            "[localhost]:1",
            "a b:1",
            "http://a:1",
        ] {
            assert_eq!(HostPort::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_unspecified_addresses_are_wildcards() {
        let wildcard = |text| HostPort::parse(text).unwrap().is_wildcard();
        assert!(wildcard("0.0.0.0:1") && wildcard("[::]:1"));
        assert!(!wildcard("127.0.0.1:1") && !wildcard("localhost:1"));
    }
}
