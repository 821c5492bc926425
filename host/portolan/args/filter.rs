//! [`FilterArgs`]: the command line of `portolan filter`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{BenchArgs, ConfigArgs, DevArgs, RegistryArgs, TestArgs};
use crate::filter::project::Language;
use crate::modules::Layout;

/// Arguments of `portolan filter`.
#[derive(Debug, ClapArgs)]
pub(crate) struct FilterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FilterCommand,
}

/// The commands of `portolan filter`.
#[derive(Debug, Subcommand)]
pub(crate) enum FilterCommand {
    /// Start a filter: a project with sources, tests and all that its first build needs
    ///
    /// A folder that holds something is left alone. In Rust the SDK's sources come along, so that cargo needs only the
    /// few crates that these name.
    New {
        /// Lower-case words with `-` between.
        #[arg(value_name = "NAME")]
        name: String,
        /// Where [default: a folder of that name]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        /// What to write it in
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        lang: Language,
    },
    /// Build the filter of a folder with its language's own toolchain, and look the module over
    ///
    /// `filter.yaml` says the language and may name another command. Rust needs cargo with target wasm32-wasip1, Go
    /// its own compiler (no TinyGo), AssemblyScript npm, C clang and lld.
    Build {
        /// The project.
        #[arg(value_name = "DIR", default_value = ".")]
        folder: PathBuf,
        /// Small and fast, for traffic: the default
        #[arg(long)]
        release: bool,
        /// As `filter dev` builds it: quick to build and to load
        #[arg(long, conflicts_with = "release")]
        dev: bool,
    },
    /// Build, serve and watch a filter: each edit is live at once, each request shows what the filter asked of the host
    ///
    /// Everything goes to a backend that answers with what it has seen, or, with `--config`, as your own files say.
    /// `/status/503` and `/delay/250` of that backend wish for a status and for milliseconds. Keys on a terminal, or words on
    /// lines elsewhere: r rebuild, t tests, x trace of the last request again, s save it as a case, b bench, o page, q quit.
    Dev(DevArgs),
    /// Run the test cases of a filter (`*.test.yaml`) in the gateway's own host
    ///
    /// Each case has a gateway of its own, with real sockets, an upstream and services that answer as it says. Exit
    /// code 1 when a case fails or there is none, 2 when a case cannot be read.
    Test(TestArgs),
    /// Measure what a filter costs: time per callback and request, memory, start
    ///
    /// The module runs in the gateway's own host, without sockets and without the other filters. Numbers of an idle
    /// machine say most; the spread of the run says how idle it was.
    Bench(BenchArgs),
    /// Write portolan.lock beside the configuration: each filter's module by digest, signer, ABI, imports and cost
    ///
    /// From then on `run` and `check` refuse another module (P0503), whatever its tag or file says.
    Lock(ConfigArgs),
    /// Say what a module is: digest, ABI, imports and whether each is served, callbacks, memory, sections, schema
    ///
    /// The module is started once, as the gateway would, to tell the memory of an instance.
    Inspect(InspectArgs),
    /// Push a module to a registry as an image, and print the WasmPlugin that runs it
    ///
    /// What the registry has is not sent again, and the digest that it serves afterwards is checked. Credentials come from
    /// PORTOLAN_REGISTRY_USER and PORTOLAN_REGISTRY_PASSWORD or from Docker's configuration.
    Push(PushArgs),
    /// Fetch a module from a registry or a web server into a file
    Pull(PullArgs),
    /// Check a module's digest and signature, as the gateway does; exit code 1 with the reason when it is refused
    Verify(VerifyArgs),
    /// List the filters of the library: `url: bundled://NAME` of a WasmPlugin puts one into the chain
    List {
        /// Form of the answer
        #[arg(long, short, value_enum, default_value_t)]
        output: ListOutput,
    },
}

/// Forms of the answers of `filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Arguments of `portolan filter inspect`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// A module, a project, which is built first, or where a module is: `oci://HOST/NAME:TAG`, `https://HOST/FILE`
    #[arg(value_name = "FILE|DIR|REFERENCE")]
    pub subject: String,
    /// Configuration to start it with [default: none, or what filter.yaml of a project says]
    #[arg(long, value_name = "JSON")]
    pub plugin_config: Option<String>,
    /// Print the JSON Schema of its configuration, and nothing else
    #[arg(long)]
    pub schema: bool,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: ListOutput,
    /// How registries are asked
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Who asks
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Arguments of `portolan filter push`.
#[derive(Debug, ClapArgs)]
pub(crate) struct PushArgs {
    /// A module, or a project, which is built first
    #[arg(value_name = "FILE.wasm|DIR")]
    pub subject: String,
    /// Where to: `oci://HOST[:PORT]/NAME[:TAG]` [default tag: latest]
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// How the image holds the module; Istio's agent takes each
    #[arg(long, value_enum, default_value_t)]
    pub layout: Layout,
    /// Sign the image as cosign does: file of a private key, ECDSA over P-256 in PEM, without a password
    #[arg(long, value_name = "KEY.pem")]
    pub sign: Option<PathBuf>,
    /// Where the sources are, for the image's annotations
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,
    /// Another annotation of the image
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = super::parse_pair)]
    pub annotations: Vec<(String, String)>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: ListOutput,
    /// How registries are asked
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Who asks
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Arguments of `portolan filter pull`.
#[derive(Debug, ClapArgs)]
pub(crate) struct PullArgs {
    /// `oci://HOST/NAME:TAG`, also with `@sha256:DIGEST`, or `https://HOST/FILE`
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// File to write, `-` for standard output [default: NAME.wasm, which is not overwritten]
    #[arg(long = "output-file", short = 'o', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What it must be
    #[command(flatten)]
    pub wanted: WantedArgs,
    /// How registries are asked
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Who asks
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Arguments of `portolan filter verify`.
#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// A module, whose signature lies beside it as FILE.sig, or where one is: `oci://HOST/NAME:TAG`, `https://HOST/FILE`
    #[arg(value_name = "FILE|REFERENCE")]
    pub subject: String,
    /// What it must be
    #[command(flatten)]
    pub wanted: WantedArgs,
    /// How registries are asked
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Who asks
    #[command(flatten)]
    pub login: LoginArgs,
}

/// What a module must be.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct WantedArgs {
    /// File of the public key that must have signed it, as `cosign generate-key-pair` writes it
    #[arg(long, value_name = "COSIGN.pub")]
    pub key: Option<PathBuf>,
    /// Digest in hex: of the image, or of the module where it is a file
    #[arg(long, value_name = "DIGEST", value_parser = parse_digest)]
    pub sha256: Option<String>,
}

/// Who asks a registry.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct LoginArgs {
    /// User of the registry; the password comes from standard input
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Docker's configuration, for its credentials [default: config.json in $DOCKER_CONFIG or $HOME/.docker]
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
}

fn parse_digest(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(hex),
        false => Err("wants 64 hexadecimal digits".to_owned()),
    }
}
