//! `verify-reload` holds requests and streams of every kind while everything changes that may: nothing is lost, and what is
//! would be counted.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::tcp::{self, Server, Tcp};
use crate::support::upstream::Upstream;
use crate::takeover::{await_success, take_over, take_over_by};

/// Kinds of traffic in the report, and what at least one of each must have become.
const KINDS: [(&str, &str); 10] = [
    ("http1", "answered"),
    ("http2", "answered"),
    ("grpc", "answered"),
    ("grpc_stream", "answered"),
    ("download", "answered"),
    ("upload", "answered"),
    ("websocket", "held"),
    ("websocket_http2", "held"),
    ("tcp", "held"),
    ("https", "answered"),
];

const RULES: &str = "\
- match: [{uri: {prefix: /test.Echo/}}]
  route: [{destination: {host: grpc.backend}}]
- match: [{uri: {prefix: /download}}]
  route: [{destination: {host: big.backend}}]
- match: [{uri: {prefix: /upload}}]
  route: [{destination: {host: sink.backend}}]
- route: [{destination: {host: app.backend}}]
";

/// Reloads, filter swaps, certificates and listeners: half of what is promised, all of it when `PORTOLAN_TEST_RELOADS` says how many
/// reloads (200).
fn counts() -> [u64; 4] {
    let reloads = std::env::var("PORTOLAN_TEST_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    [reloads, reloads / 10, reloads / 20, reloads / 40]
}

/// A gateway, and what is behind it.
struct Site {
    tcp: Tcp,
    apps: [Upstream; 2],
    _others: (GrpcServer, Upstream, Upstream),
}

impl Site {
    fn start() -> Self {
        let apps = [Upstream::start("one"), Upstream::start("two")];
        let (grpc, big, sink) = (GrpcServer::start(), Upstream::start("big"), Upstream::start("sink"));
        big.always("bytes 3000000");
        sink.always("sink");
        let of = |host: &str, app: &Upstream| service_entry(host, &[("v1", app.address())]);
        let http2 =
            service_entry("grpc.backend", &[("v1", grpc.address())]).replace("protocol: HTTP\n", "protocol: GRPC\n");
        let echo = tcp::to(Server::echo());
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes(RULES))
            .file("app.yaml", of("app.backend", &apps[0]))
            .file("big.yaml", of("big.backend", &big))
            .file("sink.yaml", of("sink.backend", &sink))
            .file("grpc.yaml", http2)
            .file("tcp.yaml", echo.replace("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n", ""))
            // Longer than a new process takes to ask for the sockets.
            .argument("--minimum-drain-time")
            .argument("8s")
            .argument("--drain-time")
            .argument("170s")
            .argument("--takeover")
            .argument(folder.keep().join("socket").display().to_string());
        Self { tcp: Tcp::start_with(options), apps, _others: (grpc, big, sink) }
    }

    fn verify(&self, arguments: &[&str]) -> Child {
        let gateway = &self.tcp.gateway;
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["verify-reload", "--host", "h", "--timeout", "60s"]);
        command.args(["--url", &format!("http://{}/verify", gateway.address())]);
        command.args(["--admin", &format!("http://{}", gateway.admin_address())]);
        command.args(["--tcp", &self.tcp.port.address().to_string(), "--config"]).arg(gateway.config());
        command.args(["--grpc", "/test.Echo/Seen", "--grpc-stream", "/test.Echo/Ticks", "--websocket", "/socket"]);
        command.args(["--download", "/download", "--upload", "/upload"]).args(arguments);
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    fn await_first_change(&self) {
        let changing = self.tcp.gateway.config().join("portolan-verify-reload-service.yaml");
        await_true("the first change", || changing.exists());
    }

    /// The service's endpoint is now one upstream, now the other, now both.
    fn churn(&self, stop: &AtomicBool) {
        let [one, two] = [&self.apps[0], &self.apps[1]].map(Upstream::address);
        let choices = [vec![("v1", one), ("v2", two)], vec![("v2", two)], vec![("v1", one)]];
        for endpoints in choices.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            self.tcp.gateway.replace("app.yaml", service_entry("app.backend", endpoints));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn left_behind(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.tcp.gateway.config()).unwrap().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains("verify-reload")).collect()
    }
}

fn report(verifying: Child) -> (Option<i32>, Value) {
    let output = verifying.wait_with_output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn assert_nothing_lost((code, report): &(Option<i32>, Value)) {
    for (kind, what) in KINDS {
        assert!(report[kind][what].as_u64() > Some(0) && report[kind]["lost"] == 0, "{kind}: {report:#}");
    }
    assert_eq!(*code, Some(0), "{report:#}");
}

/// Five takeovers: plain ones, one after a process that was killed before it had taken over, and one from a process that has got a
/// signal meanwhile. All that were replaced are the answer.
fn take_over_in_odd_orders(gateway: &mut Gateway) -> Vec<Child> {
    let mut old = vec![take_over(gateway), take_over(gateway)];
    let mut killed = gateway.start_again();
    killed.kill().unwrap();
    killed.wait().unwrap();
    old.push(take_over(gateway));
    let while_it_ends = |gateway: &Gateway| {
        let next = gateway.start_again();
        gateway.signal("TERM");
        next
    };
    old.push(take_over_by(gateway, while_it_ends));
    gateway.await_ready();
    old.push(take_over(gateway));
    old
}

#[test]
fn reloads_filter_swaps_certificates_listeners_endpoints_and_takeovers_lose_nothing_of_any_kind() {
    let counts = counts();
    let numbers = counts.map(|count| count.to_string());
    let names = ["--reloads", "--filter-swaps", "--certificate-changes", "--listener-changes"];
    let mut arguments = vec!["--output", "json"];
    arguments.extend(names.iter().zip(&numbers).flat_map(|(name, number)| [*name, number.as_str()]));
    let mut site = Site::start();
    let verifying = site.verify(&arguments);
    site.await_first_change();
    let stop = AtomicBool::new(false);
    // Endpoints churn before the takeovers and after: the files of a process that is replaced are read once.
    std::thread::scope(|scope| {
        scope.spawn(|| site.churn(&stop));
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
    });
    let old = take_over_in_odd_orders(&mut site.tcp.gateway);
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| site.churn(&stop));
        let seen = report(verifying);
        stop.store(true, Ordering::Relaxed);
        seen
    });
    if seen.0 != Some(0) {
        let access = site.tcp.gateway.access_log();
        println!(
            "--- what failed\n{}",
            access
                .lines()
                .filter(|line| line.contains(" 503 ") || line.contains(" 200 U"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    assert_nothing_lost(&seen);
    let report = &seen.1;
    let seen = ["reloads", "filter_swaps", "certificate_changes", "listener_changes"];
    assert_eq!(seen.map(|count| report[count].as_u64()), counts.map(Some));
    assert!(site.apps.iter().all(|app| app.requests() > 0));
    assert_eq!(site.left_behind(), Vec::<String>::new(), "it takes back what it has put there");
    old.into_iter().for_each(await_success);
}

#[test]
fn verify_reload_counts_what_is_lost_and_says_how() {
    let site = Site::start();
    let verifying = site.verify(&["--output", "json", "--reloads", "20", "--filter-swaps", "2"]);
    site.await_first_change();
    site.tcp.gateway.replace("routes.yaml", routes("- directResponse: {status: 404}\n"));
    let (code, report) = report(verifying);
    assert_eq!(code, Some(1));
    for kind in ["http1", "http2", "grpc", "grpc_stream", "download", "upload"] {
        assert!(report[kind]["lost"].as_u64() > Some(0), "{kind}: {report:#}");
    }
    assert!(report["http2"]["failures"][0].as_str().is_some_and(|why| why.contains("404")), "{report:#}");
    assert!(report["grpc"]["failures"][0].as_str().is_some_and(|why| why.contains("grpc-status 12")), "{report:#}");
}

#[test]
fn verify_reload_tells_people_of_each_kind() {
    let site = Site::start();
    let few = ["--reloads", "4", "--filter-swaps", "1", "--certificate-changes", "1", "--listener-changes", "1"];
    let output = site.verify(&few).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Only the counts that are given are known.
    let (changes, rest) = text.split_once("served after").unwrap();
    let rest = without_numbers(rest);
    assert_eq!(
        changes,
        "changes      4 reloads, 1 filter swaps, 1 certificates,\n             1 listeners added and removed\n"
    );
    assert_eq!(
        rest,
        " N ms (pN), N ms (pN)
http/N       N answered, N failed
http/N       N answered, N failed
grpc         N answered, N failed
grpc stream  N answered, N failed
download     N answered, N failed
upload       N answered, N failed
websocket    N held, N cut
websocket/N  N held, N cut
tcp          N held, N cut
https        N answered, N failed
lost         nothing
"
    );
}

/// Each number as `N`.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if out.ends_with('N') => {}
            true => out.push('N'),
            false => out.push(character),
        }
    }
    out
}
