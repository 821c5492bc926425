//! What the filter accepts.

use std::time::Duration;

use portolan_filter_conditions::Period;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

/// The plugin's configuration. Names and what is compressed are as in Envoy's `compressor`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// What is offered; of what a client likes equally well, the first. Default: `br`, `gzip`.
    #[serde(default = "codings")]
    pub encodings: Vec<Coding>,
    /// 1 (fast) to 9 (small). Default: 5.
    #[serde(default = "gzip_level")]
    pub gzip_level: u32,
    /// 0 (fast) to 9 (small). Default: 4.
    #[serde(default = "brotli_quality")]
    pub brotli_quality: u32,
    /// A response that is known to be smaller is left alone; bytes. Default: 1,024.
    #[serde(default = "min_content_length")]
    pub min_content_length: u64,
    /// Media types that are compressed, lower case, without parameters. Default: Envoy's list.
    #[serde(default = "content_types")]
    pub content_type: Vec<String>,
    /// Leaves responses with a strong `etag` alone, instead of making it a weak one. Default: false.
    #[serde(default)]
    pub disable_on_etag_header: bool,
    /// Keeps the upstream from compressing. Default: false.
    #[serde(default)]
    pub remove_accept_encoding_header: bool,
    /// Most responses that are compressed at a time, by each worker; others stay as they are. Default: 32, whose
    /// memory fits into the 64 MiB that a filter has by default.
    #[serde(default = "max_streams")]
    pub max_active_streams: u32,
    /// Most time of a second, by each worker. What comes then is left alone, and bodies that have begun go on
    /// uncompressed inside their coding. Default: 300 ms, below the gateway's limit of 500 ms.
    #[serde(default = "max_cpu")]
    pub max_cpu_per_second: String,
    /// Requests that are given to the upstream uncompressed. Default: none.
    pub decompress_requests: Option<DecompressConfig>,
}

/// Requests with `content-encoding` `gzip`, `deflate` or `br`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecompressConfig {
    /// Most bytes of the body once it is uncompressed; above, the request is answered with 413. Default: 1 MiB.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ConfigSchema)]
pub enum Coding {
    /// RFC 1952.
    #[serde(rename = "gzip")]
    Gzip,
    /// RFC 7932.
    #[serde(rename = "br")]
    Brotli,
}

impl Coding {
    /// As it is written in headers.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }
}

/// How much of a second may be spent, once the configuration is known to make sense.
pub(crate) fn read(config: &Config) -> Result<Duration, ConfigError> {
    let fault = |text: &str| Err(ConfigError::new(text));
    if config.encodings.is_empty() {
        return fault("`encodings` is empty");
    }
    if !(1..=9).contains(&config.gzip_level) {
        return fault("`gzipLevel` must be 1 to 9");
    }
    if config.brotli_quality > 9 {
        return fault("`brotliQuality` must be 0 to 9");
    }
    if config.content_type.len() > 256 {
        return fault("more than 256 entries in `contentType`");
    }
    let is_plain =
        |kind: &String| kind.contains('/') && !kind.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b';');
    if let Some(kind) = config.content_type.iter().find(|kind| !is_plain(kind)) {
        return Err(ConfigError::new(format!(
            "`contentType`: `{kind}` is no lower-case media type without parameters"
        )));
    }
    if !(1..=4_096).contains(&config.max_active_streams) {
        return fault("`maxActiveStreams` must be 1 to 4096");
    }
    if config.decompress_requests.as_ref().is_some_and(|config| !(1..=1 << 30).contains(&config.max_bytes)) {
        return fault("`decompressRequests.maxBytes` must be 1 to 1073741824");
    }
    match Period::read(&config.max_cpu_per_second).map(Period::duration) {
        Some(time) if (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&time) => Ok(time),
        _ => fault("`maxCpuPerSecond` must be `1ms` to `1s`"),
    }
}

fn codings() -> Vec<Coding> {
    vec![Coding::Brotli, Coding::Gzip]
}

fn gzip_level() -> u32 {
    5
}

fn brotli_quality() -> u32 {
    4
}

fn min_content_length() -> u64 {
    1_024
}

fn content_types() -> Vec<String> {
    let types = [
        "application/javascript",
        "application/json",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/css",
        "text/html",
        "text/plain",
        "text/xml",
    ];
    types.map(Into::into).into()
}

fn max_streams() -> u32 {
    32
}

fn max_cpu() -> String {
    "300ms".into()
}

fn max_bytes() -> u64 {
    1024 * 1024
}
