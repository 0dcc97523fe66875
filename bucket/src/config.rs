//! How buckets are reached: credentials, endpoint, timeouts.
//!
//! *Owns*: the options and the names of the environment variables behind them.
//! *Does not own*: reading the environment; the caller hands in a look-up.
//!
//! Invariants
//! 1. `Debug` shows whether a secret is set, never the secret.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The most objects in one page of a listing; S3's own maximum.
pub(crate) const LIST_PAGE_MAX: usize = 1000;

/// Variables that lead the S3 client to credentials it has to fetch.
const CREDENTIAL_SOURCES: [&str; 8] = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_METADATA_ENDPOINT",
];

/// Options for opening a bucket. Only S3 uses credentials, endpoint and timeouts.
#[derive(Clone)]
#[non_exhaustive]
pub struct BucketOptions {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<String>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`. Default: `us-east-1`.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`. Default: AWS. Plain `http://` is
    /// used if it says so.
    pub endpoint: Option<String>,
    /// `AWS_S3_FORCE_PATH_STYLE`: the bucket's name in the path (`true`) or in the host
    /// name (`false`). Default: in the path for an endpoint of one's own or a name with
    /// dots, else in the host name.
    pub path_style: Option<bool>,
    /// How long one request may take, body included. Default: 30 s.
    pub request_timeout: Duration,
    /// How long connecting may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// The most objects in one page of a listing, 1 to 1000. Default: 1000.
    pub list_page: usize,
    /// Where credentials are fetched if no key is given: the variables of container and
    /// web identity credentials, by name.
    pub credential_sources: BTreeMap<String, String>,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            region: None,
            endpoint: None,
            path_style: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            list_page: LIST_PAGE_MAX,
            credential_sources: BTreeMap::new(),
        }
    }
}

impl BucketOptions {
    /// Takes the usual AWS variables from `look_up`. An empty variable counts as unset.
    pub fn from_env(look_up: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let sources = CREDENTIAL_SOURCES
            .iter()
            .filter_map(|name| var(name).map(|value| ((*name).to_owned(), value)))
            .collect();
        Self {
            access_key_id: var("AWS_ACCESS_KEY_ID"),
            secret_access_key: var("AWS_SECRET_ACCESS_KEY"),
            session_token: var("AWS_SESSION_TOKEN"),
            region: var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION")),
            endpoint: var("AWS_ENDPOINT_URL_S3").or_else(|| var("AWS_ENDPOINT_URL")),
            path_style: var("AWS_S3_FORCE_PATH_STYLE").and_then(|value| truth(&value)),
            credential_sources: sources,
            ..Self::default()
        }
    }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl fmt::Debug for BucketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "(set)");
        f.debug_struct("BucketOptions")
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &hidden(&self.secret_access_key))
            .field("session_token", &hidden(&self.session_token))
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("list_page", &self.list_page)
            .field("credential_sources", &self.credential_sources.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> BucketOptions {
        BucketOptions::from_env(|name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_specific_variable_wins_and_an_empty_one_is_unset() {
        let both = options(&[
            ("AWS_ENDPOINT_URL", "http://general"),
            ("AWS_ENDPOINT_URL_S3", "http://special"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-north-1"),
            ("AWS_S3_FORCE_PATH_STYLE", "False"),
        ]);
        assert_eq!(both.endpoint.as_deref(), Some("http://special"));
        assert_eq!(both.region.as_deref(), Some("eu-north-1"));
        assert_eq!(both.path_style, Some(false));
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let shown = format!(
            "{:?}",
            options(&[
                ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
                ("AWS_SESSION_TOKEN", "token-hush"),
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "http://127.0.0.1/hush"
                ),
            ])
        );
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("AKIDEXAMPLE"), "{shown}");
    }
}
