//! [`Args`]: the command line.

mod cases;
mod dev;
mod filter;
mod limits;
mod routes;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use portolan_model::Underscores;

pub(crate) use self::cases::{BenchArgs, TestArgs, TestOutput};
pub(crate) use self::dev::{DevArgs, TraceMode};
pub(crate) use self::filter::{
    FilterArgs, FilterCommand, InspectArgs, ListOutput, LoginArgs, PullArgs, PushArgs, VerifyArgs,
};
pub(crate) use self::limits::LimitArgs;
pub(crate) use self::routes::{DiffArgs, RouteTestArgs};
pub(crate) use self::verify::{VerifyOutput, VerifyReloadArgs};
use crate::modules::ClientOptions;

/// A WebAssembly-extensible ingress gateway that speaks Istio's resources.
#[derive(Debug, Parser)]
#[command(
    name = "portolan",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 fine, 1 findings or failure, 2 wrong usage or unreadable configuration.\n\
                  Start with `portolan demo`: it needs no file."
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one for each process")]
pub(crate) enum Command {
    /// Serve traffic as the files say; changes of the files are served at once
    ///
    /// SIGHUP reads the files now. SIGTERM and SIGINT turn readiness off, finish requests in flight within the
    /// drain time and end with exit code 0; a second signal ends at once. `--takeover` replaces a running process.
    Run(RunArgs),
    /// Validate files without serving them; exit code 1 when there are errors
    Check(CheckArgs),
    /// Say which rule a request takes and why, by running the real filters on it
    Explain(ExplainArgs),
    /// Run route tests (`*.test.yaml`): does each request go where it should?
    ///
    /// Each asks the filters that would serve the files, or a running gateway (`--admin`). Exit code 1 when a test fails,
    /// 2 when one cannot be read or there is none.
    Test(RouteTestArgs),
    /// Say what a change of the files means: hosts, rules, splits, destinations, policies, listeners, filters
    ///
    /// Comments, format, and moves that change nothing are not told.
    Diff(DiffArgs),
    /// Hold requests and streams against a running gateway while its files change, and count what is lost
    ///
    /// Over HTTP/1 and HTTP/2 requests follow each other; a WebSocket and a TCP connection stay open. Meanwhile harmless
    /// objects in the gateway's folder change. Exit code 1 when a request failed or a stream was cut.
    VerifyReload(VerifyReloadArgs),
    /// Write, try, measure, publish and pin filters
    Filter(FilterArgs),
    /// Serve two embedded backends, split 80/20, from files that you can edit live
    Demo(DemoArgs),
    /// Write a small working set of files to start from
    Init(InitArgs),
    /// Serve in front of one existing backend; prints the resources that it makes up
    Try(TryArgs),
    /// Print the version and what is built in
    Version,
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page (roff); read it with `portolan man | man -l -`
    Man,
    /// Compile the module on standard input into a cache: what `run` has done beside itself
    #[command(hide = true)]
    Compile {
        /// The folder that `run` was given as `--cache-dir`.
        #[arg(long, value_name = "PATH")]
        cache_dir: PathBuf,
    },
    /// Print this message, the help of a command, or what a code of `check` means: `portolan help P0204`
    Help {
        /// A command with its subcommands, or a code.
        #[arg(value_name = "COMMAND|CODE")]
        words: Vec<String>,
    },
}

/// Arguments of `portolan run`.
#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// Where the configuration is and how it is read
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How it is served
    #[command(flatten)]
    pub serve: ServeArgs,
    /// How long the end may take at most, e.g. `500ms`, `5s`, `1m`; wins over the mesh's `terminationDrainDuration` [default: 45s]
    ///
    /// What is then left of requests, streams and connections is cut.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub drain_time: Option<Duration>,
    /// How long clients are still taken in after SIGTERM, or half of `--drain-time` if that is less
    ///
    /// Readiness is off, answers carry `connection: close` and HTTP/2 clients get GOAWAY, so that load balancers notice;
    /// then listeners close and what is in flight ends. SIGINT does not wait.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub minimum_drain_time: Duration,
    /// Unix socket by which a new process takes over from a running one, both started with the same path
    ///
    /// The new process takes the listening sockets and the admin port, serves, and only then does the old one stop
    /// accepting: it finishes its streams within `--drain-time` and ends. When the new one does not start, or its
    /// configuration has errors, the old one serves on. Processes of the same user only.
    #[arg(long, value_name = "PATH")]
    pub takeover: Option<PathBuf>,
}

/// Where the configuration is, and what it is read against; the same for `run`, `check` and `explain`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ConfigArgs {
    /// File or folder of YAML documents; may be given several times
    ///
    /// Folders are read wholly, with their subfolders.
    #[arg(long, short = 'c', value_name = "PATH", required = true)]
    pub config: Vec<PathBuf>,
    /// Label of this gateway, which a Gateway's `selector` must fit [default: istio=ingressgateway]
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// Namespace of this gateway, which `exportTo`, `sourceNamespace` and the look-up of DestinationRules go by
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub namespace: String,
    /// Serve requests whose path others may read as another one (`//`, `%2F`, `;`) though another rule is for that path
    ///
    /// They are answered with 400 otherwise: what guards a path here must not be passed by through a backend that reads
    /// the path differently.
    #[arg(long)]
    pub allow_ambiguous_paths: bool,
    /// Proxies in front of this gateway whose `x-forwarded-for` and `x-forwarded-proto` count [default: `numTrustedProxies` of the mesh configuration, else 0]
    #[arg(long, value_name = "N")]
    pub num_trusted_proxies: Option<u32>,
    /// What becomes of a request with a `_` in a header's name, which some backends read as `-`
    #[arg(long, value_name = "ACTION", value_enum, default_value_t)]
    pub headers_with_underscores: UnderscoresAction,
    /// Where this gateway runs, for `localityLbSetting`: as much of it as is known
    #[arg(long, value_name = "REGION/ZONE/SUBZONE", default_value = "", hide_default_value = true)]
    pub locality: String,
    /// Istio's name of the cluster that this gateway runs in, for metrics and traces [default: `Kubernetes` in metrics, `unknown` in traces]
    #[arg(long, value_name = "NAME")]
    pub cluster_id: Option<String>,
    /// Port to bind for a Gateway's port, as a Service maps `port` to `targetPort`
    #[arg(long = "port-map", value_name = "PORT=BIND", value_parser = parse_port_pair)]
    pub port_map: Vec<(u16, u16)>,
    /// Replaces a bundled filter (route-match, traffic-split, circuit-breaker, or one of `portolan filter list`) by a module that is watched
    #[arg(long = "filter", value_name = "NAME=FILE.wasm", value_parser = parse_filter)]
    pub filters: Vec<(String, PathBuf)>,
    /// Variable of this process's environment that filters may ask for (`vmConfig.env`, `valueFrom: HOST`) [default: none]
    #[arg(long = "wasm-env", value_name = "NAME")]
    pub wasm_env: Vec<String>,
    /// How registries and web servers are asked for modules
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Report each kind of call of a user's filter that is not honoured, once, in the log
    #[arg(long)]
    pub strict_wasm: bool,
    /// Folder for fetched and compiled modules, which makes the next start fast and independent of registries
    ///
    /// Default: `portolan` in `$XDG_CACHE_HOME`, or `$HOME/.cache/portolan`; no cache when neither is set.
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// DNS server that resolves the names of services, e.g. `10.0.0.10:53` [default: the system's, from /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS")]
    pub dns_server: Option<SocketAddr>,
}

/// What becomes of a request with a `_` in a header's name: Envoy's `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnderscoresAction {
    /// It gets 400
    #[default]
    Reject,
    /// It goes on without that header
    Drop,
    /// It goes on as it is
    Allow,
}

impl From<UnderscoresAction> for Underscores {
    fn from(action: UnderscoresAction) -> Self {
        match action {
            UnderscoresAction::Reject => Self::Reject,
            UnderscoresAction::Drop => Self::Drop,
            UnderscoresAction::Allow => Self::Allow,
        }
    }
}

/// How registries and web servers are asked for modules; the same wherever they are.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct RegistryArgs {
    /// Registry that is asked over plain HTTP instead of HTTPS
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub insecure_registries: Vec<String>,
    /// PEM file of certificate authorities to trust when modules are fetched, besides the system's
    #[arg(long = "module-ca", value_name = "FILE")]
    pub module_ca: Vec<PathBuf>,
}

impl RegistryArgs {
    pub(crate) fn client(&self) -> ClientOptions {
        ClientOptions { ca: self.module_ca.clone(), insecure: self.insecure_registries.clone() }
    }
}

/// How a configuration is served; the same for `run`, `demo` and `try`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Address of the admin server, which shows configuration: keep it private
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    pub admin_address: SocketAddr,
    /// Port on all addresses that answers `/healthz/ready`; Istio's is 15021 [default: none]
    #[arg(long, value_name = "PORT")]
    pub status_port: Option<u16>,
    /// Worker threads, each with its own sockets and filters; wins over the mesh's `concurrency` [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// File for the access log, e.g. `/dev/stdout`; wins over `meshConfig.accessLogFile` [default: no access log]
    #[arg(long, value_name = "PATH")]
    pub access_log: Option<PathBuf>,
    /// Least level of the log on standard error: error, warn, info, debug, trace, or per target as in `info,portolan_proxy=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Serve plain HTTP as HTTPS too, with certificates that an authority made on this machine signs: for development
    ///
    /// Port 80 is served at what `--port-map` says of 443, any other port P at P+363: 8080 at 8443. TLS servers whose
    /// credential is missing get a certificate as well. The log says how clients come to trust it.
    #[arg(long)]
    pub dev_tls: bool,
    /// Directory of the ACME server that signs certificates which are missing, for Gateways with `portolan.dev/acme`
    #[arg(long, value_name = "URL", default_value = "https://acme-v02.api.letsencrypt.org/directory")]
    pub acme_directory: String,
    /// PEM file of certificate authorities to trust when the ACME server is asked, besides the system's
    #[arg(long = "acme-ca", value_name = "FILE")]
    pub acme_ca: Vec<PathBuf>,
    /// Folder for what must outlive the process: the authority of `--dev-tls`, accounts and certificates of ACME
    ///
    /// Default: `portolan` in `$XDG_STATE_HOME`, or `$HOME/.local/state/portolan`. Only its user can read it.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Limits
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Arguments of `portolan check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    /// Where the configuration is; `-` reads standard input
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: CheckOutput,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
}

/// Forms of the answer of `check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckOutput {
    /// For people: the line with a mark under the place
    #[default]
    Text,
    /// One JSON document
    Json,
    /// Annotations of a GitHub workflow
    Github,
}

/// Arguments of `portolan explain`.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("config", |arg| arg.required(false).required_unless_present("admin")))]
pub(crate) struct ExplainArgs {
    /// Where the configuration is
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ask a running gateway instead: its admin port, e.g. `http://127.0.0.1:15000`
    ///
    /// Its filters decide by what it serves now; filters of users are told and do not run.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub admin: Option<String>,
    /// The request's URL, e.g. `http://shop.example.com:8080/api?x=1`
    ///
    /// Its port picks the listener; without a port 80. When nothing listens there, the only listener is taken.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The request's method
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A request header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: ExplainOutput,
}

/// Forms of the answer of `explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainOutput {
    /// For people
    #[default]
    Text,
    /// The same tree as JSON
    Json,
}

/// Arguments of `portolan demo`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// Where the gateway listens, `HOST:PORT` or `:PORT` for all addresses
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// How it is served
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Arguments of `portolan init`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InitArgs {
    /// Folder to write to; made when absent. Nothing is ever overwritten
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Arguments of `portolan try`.
#[derive(Debug, ClapArgs)]
pub(crate) struct TryArgs {
    /// The backend: `HOST:PORT`; a name is resolved by DNS
    #[arg(long, value_name = "ADDRESS", value_parser = parse_backend)]
    pub to: (String, u16),
    /// Where the gateway listens, `HOST:PORT` or `:PORT` for all addresses
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Host that is served
    #[arg(long, value_name = "HOST", default_value = "*")]
    pub host: String,
    /// How it is served
    #[command(flatten)]
    pub serve: ServeArgs,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("wants KEY=VALUE".to_owned()),
    }
}

fn parse_port_pair(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = parse_pair(text).map_err(|_| "wants PORT=BIND, e.g. 80=8080".to_owned())?;
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a port from 0 to 65535"));
    Ok((port(&from)?, port(&to)?))
}

fn parse_filter(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = parse_pair(text).map_err(|_| "wants NAME=FILE.wasm".to_owned())?;
    if file.is_empty() {
        return Err("wants NAME=FILE.wasm".to_owned());
    }
    Ok((name, PathBuf::from(file)))
}

pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err("wants `name: value`".to_owned()),
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replace("localhost:", "127.0.0.1:"),
    };
    full.parse().map_err(|_| "wants HOST:PORT or :PORT, e.g. 127.0.0.1:8080".to_owned())
}

fn parse_backend(text: &str) -> Result<(String, u16), String> {
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some(("", port)) => Ok(("127.0.0.1".to_owned(), port)),
        Some((host, port)) => Ok((host.trim_matches(['[', ']']).to_owned(), port)),
        None => Err("wants HOST:PORT, e.g. 127.0.0.1:9000".to_owned()),
    }
}

/// A number with a unit: `ms`, `s`, `m` or `h`, as in Istio's durations.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wants = || format!("`{text}` is not a time; wants e.g. 500ms, 5s or 1m");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wants)?;
    let number: f64 = text[..end].parse().map_err(|_| wants())?;
    let seconds = match &text[end..] {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wants()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wants())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn run_takes_every_flag_of_the_contract() {
        let line = "portolan run --config a --config b.yaml --admin-address 127.0.0.1:0 --status-port 15021 --workers 2 \
                    --label istio=edge --port-map 80=8080 --port-map 443=8443 --filter route-match=x.wasm \
                    --access-log /dev/stdout --drain-time 500ms --cache-dir /c --log-level debug";
        let Command::Run(run) = Args::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(run.config.config.len(), 2);
        assert_eq!(run.config.port_map, [(80, 8080), (443, 8443)]);
        assert_eq!(run.config.labels, [("istio".to_owned(), "edge".to_owned())]);
        assert_eq!(run.config.filters, [("route-match".to_owned(), PathBuf::from("x.wasm"))]);
        assert_eq!(run.drain_time, Some(Duration::from_millis(500)));
        assert_eq!((run.serve.status_port, run.serve.workers), (Some(15021), Some(2)));
    }

    #[test]
    fn wrong_usage_has_exit_code_2() {
        for line in ["portolan", "portolan run", "portolan run --config x --workers 0", "portolan explain --config x"] {
            let error = Args::try_parse_from(line.split_whitespace()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["5", "s", "-1s", "5 parsecs", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_may_leave_the_host_out() {
        assert_eq!(parse_listen(":8080"), Ok("0.0.0.0:8080".parse().unwrap()));
        assert_eq!(parse_listen("localhost:1"), Ok("127.0.0.1:1".parse().unwrap()));
        assert_eq!(parse_backend(":9000"), Ok(("127.0.0.1".to_owned(), 9000)));
        assert_eq!(parse_backend("http://shop:9000/"), Ok(("shop".to_owned(), 9000)));
        assert_eq!(parse_backend("[::1]:9000"), Ok(("::1".to_owned(), 9000)));
        assert!(parse_backend("shop").is_err());
    }

    #[test]
    fn header_names_are_lower_case() {
        assert_eq!(parse_header("X-User: a: b "), Ok(("x-user".to_owned(), "a: b".to_owned())));
        assert!(parse_header(": x").is_err());
    }
}
