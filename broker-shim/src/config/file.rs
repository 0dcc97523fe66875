//! The configuration file: a flat TOML table whose keys are the flags' names.
//!
//! *Owns*: reading the text into key and value texts.
//! *Does not own*: opening the file; the values' forms and ranges.
//!
//! Invariants
//! 1. A key that is no setting is refused, never skipped.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileValues {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, String>,
}

impl FileValues {
    /// Reads `text`, which stood in `path`; only `names` may be keys.
    pub(crate) fn parse(path: &Path, text: &str, names: &[&str]) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error| syntax(path, text, &error))?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            if !names.contains(&key.as_str()) {
                let expected = expected_key(&key, names);
                let path = path.to_owned();
                return Err(ConfigError::UnknownKey {
                    path,
                    key,
                    expected,
                });
            }
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                other => {
                    let (path, found) = (path.to_owned(), other.type_str());
                    return Err(ConfigError::KeyType { path, key, found });
                }
            };
            values.insert(key, value);
        }
        let path = path.to_owned();
        Ok(Self { path, values })
    }
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = 1 + before.bytes().filter(|&b| b == b'\n').count();
    let problem = error.message().replace('\n', " ");
    let path = path.to_owned();
    ConfigError::Syntax {
        path,
        line,
        problem,
    }
}

/// Names the setting that was probably meant, or all of them.
fn expected_key(key: &str, names: &[&str]) -> String {
    let flat = |text: &str| text.replace(['-', '_', '.'], "").to_ascii_lowercase();
    let meant = names.iter().find(|name| flat(name) == flat(key));
    meant.map_or_else(
        || format!("one of {}", names.join(", ")),
        |name| (*name).to_owned(),
    )
}
