//! [`RouteTestArgs`], [`DiffArgs`]: the command line of `portolan test` and `portolan diff`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{ConfigArgs, ExplainOutput, TestOutput};

/// Arguments of `portolan test`.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("config", |arg| arg.required(false).required_unless_present_any(["admin", "schema"])))]
pub(crate) struct RouteTestArgs {
    /// Where the configuration is; without FILE its tests are beside it
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Files with tests, or folders that are searched for `*.test.yaml` [default: those beside the configuration]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Ask a running gateway instead of the files: its admin port, e.g. `http://127.0.0.1:15000`
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Only the test of this name
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Say which rules no test reaches
    #[arg(long)]
    pub coverage: bool,
    /// Fail when fewer of the rules are reached
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub min_coverage: Option<f64>,
    /// Form of the answer
    #[arg(long, short, visible_alias = "format", value_enum, default_value_t)]
    pub output: TestOutput,
    /// Print the JSON Schema of a route test and do nothing else
    #[arg(long)]
    pub schema: bool,
}

impl RouteTestArgs {
    /// Whether rules are to be counted.
    pub(crate) fn wants_coverage(&self) -> bool {
        self.coverage || self.min_coverage.is_some()
    }
}

/// Arguments of `portolan diff`.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("config", |arg| arg.required(false).hide(true)))]
pub(crate) struct DiffArgs {
    /// What is served, and what would be: files or folders. With `--admin` only the second
    #[arg(value_name = "OLD NEW", required = true, num_args = 1..=2)]
    pub paths: Vec<PathBuf>,
    /// How both are read
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Compare with what a running gateway serves: its admin port, e.g. `http://127.0.0.1:15000`
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Say which of the requests that the gateway remembers would go elsewhere
    #[arg(long, requires = "admin")]
    pub traffic: bool,
    /// End with 1 when anything differs, as diff(1) does
    #[arg(long)]
    pub exit_code: bool,
    /// Form of the answer
    #[arg(long, short, visible_alias = "format", value_enum, default_value_t)]
    pub output: ExplainOutput,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>().ok();
    number.filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| "wants a number from 0 to 100".to_owned())
}
