//! The text that names a bucket.
//!
//! *Owns*: parsing and printing `file:PATH`, `memory:` and `s3://BUCKET/PREFIX`.
//! *Does not own*: credentials (never part of the text) and opening.
//!
//! Invariants
//! 1. What is printed parses back to the same value.
//!
//! *IO: none*

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::ParseUrlError;
use crate::key::check_key;

/// Names a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BucketUrl {
    /// `file:PATH` or `file:///PATH`: a directory; a relative path is relative to the
    /// working directory of the process.
    File {
        /// The directory.
        path: PathBuf,
    },
    /// `memory:`: an empty bucket of this process.
    Memory,
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`: a bucket of a store that speaks S3.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all keys start with, without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl FromStr for BucketUrl {
    type Err = ParseUrlError;

    fn from_str(url: &str) -> Result<Self, ParseUrlError> {
        if let Some(path) = url.strip_prefix("file:") {
            parse_file(url, path)
        } else if let Some(rest) = url.strip_prefix("memory:") {
            if rest.is_empty() {
                Ok(Self::Memory)
            } else {
                Err(ParseUrlError::Trailing {
                    url: url.to_owned(),
                    rest: rest.to_owned(),
                })
            }
        } else if let Some(rest) = url.strip_prefix("s3://") {
            parse_s3(url, rest)
        } else {
            Err(ParseUrlError::Scheme {
                url: url.to_owned(),
            })
        }
    }
}

fn parse_file(url: &str, path: &str) -> Result<BucketUrl, ParseUrlError> {
    let path = match path.strip_prefix("//") {
        Some(rest) => {
            let host = rest.split('/').next().unwrap_or_default();
            if !host.is_empty() {
                let host = host.to_owned();
                return Err(ParseUrlError::Host {
                    url: url.to_owned(),
                    host,
                });
            }
            rest
        }
        None => path,
    };
    if path.is_empty() {
        return Err(ParseUrlError::NoPath {
            url: url.to_owned(),
        });
    }
    Ok(BucketUrl::File {
        path: PathBuf::from(path),
    })
}

fn parse_s3(url: &str, rest: &str) -> Result<BucketUrl, ParseUrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(rule) = broken_name_rule(bucket) {
        let name = bucket.to_owned();
        return Err(ParseUrlError::BucketName {
            url: url.to_owned(),
            name,
            rule,
        });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() {
        check_key(prefix).map_err(|problem| ParseUrlError::Prefix {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            problem: problem.to_string(),
        })?;
    }
    Ok(BucketUrl::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

/// Which of S3's naming rules for general purpose buckets `name` breaks.
fn broken_name_rule(name: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !(3..=63).contains(&name.len()) {
        Some("3 to 63 characters")
    } else if !name.bytes().all(allowed) {
        Some("only lower-case letters, digits, '-' and '.'")
    } else if !edge(name.bytes().next()) || !edge(name.bytes().last()) {
        Some("starts and ends with a letter or a digit")
    } else if name.contains("..") {
        Some("no two dots in a row")
    } else {
        None
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => {
                // A path that starts with two slashes would read as a host.
                let scheme = if path.to_string_lossy().starts_with("//") {
                    "file://"
                } else {
                    "file:"
                };
                write!(f, "{scheme}{}", path.display())
            }
            Self::Memory => f.write_str("memory:"),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BucketUrl, ParseUrlError> {
        url.parse()
    }

    #[test]
    fn urls_parse_and_print_back() {
        for (url, printed) in [
            ("file:data/bucket", "file:data/bucket"),
            ("file:/var/lib/tw", "file:/var/lib/tw"),
            ("file:///var/lib/tw", "file:/var/lib/tw"),
            ("file:////odd", "file:////odd"),
            ("memory:", "memory:"),
            ("s3://abc", "s3://abc"),
            ("s3://abc/", "s3://abc"),
            (
                "s3://my.bucket-1/some/prefix/",
                "s3://my.bucket-1/some/prefix",
            ),
        ] {
            let parsed = parse(url).unwrap();
            assert_eq!(parsed.to_string(), printed);
            assert_eq!(parse(printed).unwrap(), parsed);
        }
    }

    #[test]
    fn errors_say_what_was_wrong() {
        for url in ["", "bucket", "/data", "gs://abc", "S3://abc", "http://h/b"] {
            assert!(
                matches!(parse(url), Err(ParseUrlError::Scheme { .. })),
                "{url}"
            );
        }
        assert!(matches!(parse("file:"), Err(ParseUrlError::NoPath { .. })));
        assert!(matches!(
            parse("file://"),
            Err(ParseUrlError::NoPath { .. })
        ));
        assert!(matches!(
            parse("file://host/p"),
            Err(ParseUrlError::Host { host, .. }) if host == "host"
        ));
        assert!(matches!(
            parse("memory:x"),
            Err(ParseUrlError::Trailing { rest, .. }) if rest == "x"
        ));
        for url in [
            "s3://",
            "s3:///p",
            "s3://ab",
            "s3://Abc",
            "s3://-ab",
            "s3://a..b",
            "s3://a_b",
        ] {
            assert!(
                matches!(parse(url), Err(ParseUrlError::BucketName { .. })),
                "{url}"
            );
        }
        for url in [
            "s3://abc//p",
            "s3://abc/a/../b",
            "s3://abc/a?b",
            "s3://abc/p//",
        ] {
            assert!(
                matches!(parse(url), Err(ParseUrlError::Prefix { .. })),
                "{url}"
            );
        }
    }
}
