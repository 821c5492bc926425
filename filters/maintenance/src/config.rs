//! What the filter accepts.

use portolan_filter_conditions::{ClientAddress, IpRanges, Period, RequestMatch};
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::accept::Form;
use crate::schedule::Window;

/// Most windows, and most conditions.
const MAX_ENTRIES: usize = 64;
/// Longest page in bytes.
const MAX_PAGE: usize = 64 * 1024;
/// Shortest token in bytes.
const MIN_TOKEN: usize = 16;

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// On all the time. Default: true without `windows` and `switch`, else false.
    #[serde(default)]
    enabled: Option<bool>,
    /// On in these times.
    #[serde(default)]
    #[schema(max_items = 64)]
    windows: Vec<Window>,
    /// On when somebody has said so at run time.
    #[serde(default)]
    switch: Option<Switch>,
    /// HTTP status, 400 to 599. Default: 503.
    #[serde(default = "default_status")]
    #[schema(minimum = 400, maximum = 599)]
    status: u32,
    /// What `retry-after` says. Default: until the end of the window, where there is one.
    #[serde(default)]
    retry_after: Option<Period>,
    /// The page for people.
    #[serde(default)]
    html: Option<String>,
    /// The page for programs.
    #[serde(default)]
    json: Option<String>,
    /// The page for all others.
    #[serde(default)]
    text: Option<String>,
    /// Who is let through.
    #[serde(default)]
    allow: Allow,
}

/// Who is let through: one of these is enough.
#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Allow {
    /// Clients by address.
    pub(crate) addresses: IpRanges,
    /// Number of trusted proxies in front of the gateway. Default: 0.
    pub(crate) trusted_hops: ClientAddress,
    /// Requests by their heads.
    #[schema(max_items = 64)]
    pub(crate) requests: Vec<RequestMatch>,
}

/// A path that turns it on (`PUT`) and off (`DELETE`) and tells (`GET`), for who sends `authorization: Bearer TOKEN`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// Begins with `/`.
    #[schema(pattern = "^/")]
    pub(crate) path: String,
    /// At least 16 bytes.
    #[schema(min_length = 16)]
    pub(crate) token: String,
}

/// What the filter runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) enabled: bool,
    pub(crate) windows: Vec<Window>,
    pub(crate) switch: Option<Switch>,
    pub(crate) status: u32,
    pub(crate) retry_after: Option<u64>,
    /// The gateway's favourite first; at least one.
    pub(crate) pages: Vec<(Form, String)>,
    pub(crate) allow: Allow,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn settings(self) -> Result<Settings, ConfigError> {
        let Self { enabled, windows, switch, status, retry_after, html, json, text, allow } = self;
        if !(400..=599).contains(&status) {
            return Err(ConfigError::new(format!("status: {status} is not a refusal: 400 to 599")));
        }
        for (field, count) in [("windows", windows.len()), ("allow.requests", allow.requests.len())] {
            if count > MAX_ENTRIES {
                return Err(ConfigError::new(format!("{field}: {count} entries are too many: at most {MAX_ENTRIES}")));
            }
        }
        if let Some(i) = windows.iter().position(|window| window.from >= window.to) {
            return Err(ConfigError::new(format!("windows[{i}]: it ends before it begins")));
        }
        if let Some(i) = allow.requests.iter().position(RequestMatch::is_empty) {
            return Err(ConfigError::new(format!(
                "allow.requests[{i}]: an empty condition lets every request through"
            )));
        }
        if let Some(switch) = &switch {
            check_switch(switch)?;
        }
        Ok(Settings {
            enabled: enabled.unwrap_or(windows.is_empty() && switch.is_none()),
            windows,
            switch,
            status,
            retry_after: retry_after.map(|period| period.duration().as_secs()),
            pages: pages(html, json, text)?,
            allow,
        })
    }
}

fn check_switch(switch: &Switch) -> Result<(), ConfigError> {
    if !switch.path.starts_with('/') {
        return Err(ConfigError::new(format!("switch.path: `{}` does not begin with `/`", switch.path)));
    }
    let is_plain = switch.token.bytes().all(|byte| byte.is_ascii_graphic());
    if switch.token.len() < MIN_TOKEN || !is_plain {
        return Err(ConfigError::new(format!(
            "switch.token: it has at least {MIN_TOKEN} letters and digits, and no blanks"
        )));
    }
    Ok(())
}

/// Those that are given; our own when none is.
fn pages(html: Option<String>, json: Option<String>, text: Option<String>) -> Result<Vec<(Form, String)>, ConfigError> {
    let given = [("text", Form::Text, text), ("json", Form::Json, json), ("html", Form::Html, html)];
    let mut pages = Vec::new();
    for (field, form, page) in given {
        let Some(page) = page else { continue };
        if page.len() > MAX_PAGE {
            return Err(ConfigError::new(format!("{field}: {} bytes are too many: at most {MAX_PAGE}", page.len())));
        }
        pages.push((form, page));
    }
    if pages.is_empty() {
        let own = [(Form::Text, TEXT), (Form::Json, JSON), (Form::Html, HTML)];
        pages.extend(own.map(|(form, page)| (form, page.to_owned())));
    }
    Ok(pages)
}

const TEXT: &str = "down for maintenance\n";
const JSON: &str = "{\"error\":\"down for maintenance\"}\n";
const HTML: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
                    <meta name=\"viewport\" content=\"width=device-width\">\n<title>Down for maintenance</title>\n\
                    <h1>Down for maintenance</h1>\n<p>Please come back in a while.</p>\n</html>\n";

fn default_status() -> u32 {
    503
}
