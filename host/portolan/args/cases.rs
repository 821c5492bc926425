//! [`TestArgs`], [`BenchArgs`]: the command line of `portolan filter test` and `portolan filter bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::dev::parse_json;
use super::{ExplainOutput, parse_duration, parse_header};

/// Arguments of `portolan filter test`.
#[derive(Debug, ClapArgs)]
pub(crate) struct TestArgs {
    /// The project, which is built first; or a module
    ///
    /// Cases are the files `*.test.yaml` of its folder and of `tests` in it.
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    pub target: PathBuf,
    /// Configuration in place of that of filter.yaml; a case's own goes before both
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    pub plugin_config: Option<serde_json::Value>,
    /// Only the case of this name
    #[arg(long, value_name = "NAME", conflicts_with = "record")]
    pub case: Option<String>,
    /// Test the build for traffic instead of that of `filter dev`
    #[arg(long)]
    pub release: bool,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: TestOutput,
    /// Print the JSON Schema of a case and do nothing else
    #[arg(long)]
    pub schema: bool,
    /// Send a request and write what comes of it as a case of this name, to a new file in `tests`
    #[arg(long, value_name = "NAME")]
    pub record: Option<String>,
    /// The request's URL, or its path, to record
    #[arg(long, value_name = "URL", requires = "record")]
    pub url: Option<String>,
    /// The request's method, to record [default: GET; POST with --data]
    #[arg(long, short = 'X', value_name = "METHOD", requires = "record")]
    pub method: Option<String>,
    /// A request header, to record; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header, requires = "record")]
    pub headers: Vec<(String, String)>,
    /// The request's body, to record
    #[arg(long, short, value_name = "TEXT", requires = "record")]
    pub data: Option<String>,
}

/// Forms of the answer of `filter test`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestOutput {
    /// For people: a line for each case, and what differs
    #[default]
    Text,
    /// One JSON document
    Json,
    /// Annotations of a GitHub workflow
    Github,
    /// JUnit's XML
    Junit,
}

/// Arguments of `portolan filter bench`.
#[derive(Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    /// The project, which is built for traffic first; or a module
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    pub target: PathBuf,
    /// Configuration in place of that of filter.yaml; a case's own goes before both
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    pub plugin_config: Option<serde_json::Value>,
    /// Case whose request, answers and configuration are taken [default: a browser's GET of `/`]
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Most that the median of a request may take, e.g. `20us`; exit code 1 when it takes more
    #[arg(long, value_name = "TIME", value_parser = parse_budget)]
    pub budget: Option<Duration>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: ExplainOutput,
}

/// As other times, and `us` and `ns` too.
fn parse_budget(text: &str) -> Result<Duration, String> {
    let small = [("us", 1e6), ("ns", 1e9)].iter().find_map(|(unit, parts)| Some((text.strip_suffix(unit)?, parts)));
    let Some((number, parts)) = small else { return parse_duration(text) };
    let seconds = number.trim().parse::<f64>().ok().map(|number| number / parts);
    let budget = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    budget.ok_or_else(|| format!("`{text}` is not a time; wants e.g. 20us or 1ms"))
}
