//! `portolan filter dev` as an author uses it: the module's file is replaced while requests run, and the screen is read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::client::{self, Connection, Request, Response};
use crate::support::ports::Port;

/// So long may anything take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A filter that looks for `authorization` and traps at `x-trap`; responses get `x-module: NAME`.
fn module(name: &str, configured: bool) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
          (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "authorization") (data (i32.const 16) "x-trap") (data (i32.const 32) "x-module")
          (data (i32.const 48) "{name}") (data (i32.const 64) "looked")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) i32.const 4096)
          (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const {configured})
          (func $check (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 0) (i32.const 13) (i32.const 256) (i32.const 260)))
            (drop (call $log (i32.const 2) (i32.const 64) (i32.const 6)))
            (if (i32.eqz (call $get (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 256) (i32.const 260)))
              (then unreachable))
            i32.const 0)
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $set (i32.const 2) (i32.const 32) (i32.const 8) (i32.const 48) (i32.const {length})))
            i32.const 0))"#,
        configured = u8::from(configured),
        length = name.len(),
    );
    wat::parse_str(text).unwrap()
}

/// The running command.
struct Dev {
    child: Child,
    input: Option<ChildStdin>,
    screen: Arc<Mutex<String>>,
    port: Port,
    folder: TempDir,
}

impl Dev {
    /// On a module of this content, `stamp.wasm`.
    fn start(module: &[u8], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stamp.wasm"), module).unwrap();
        Self::start_on(folder, "stamp.wasm", arguments)
    }

    fn start_on(folder: TempDir, path: &str, arguments: &[&str]) -> Self {
        let port = Port::free();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["filter", "dev", path, "--listen", &port.address().to_string()]).args(arguments);
        command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"));
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates"));
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let screen = Arc::<Mutex<String>>::default();
        let copy = screen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                *copy.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, input, screen, port, folder }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn module(&self) -> PathBuf {
        self.folder.path().join("stamp.wasm")
    }

    /// In one step, as a linker that cares would.
    fn replace(&self, module: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, module).unwrap();
        fs::rename(new, self.module()).unwrap();
    }

    fn types(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until the screen shows this so often.
    fn awaits(&self, part: &str, times: usize) {
        let until = Instant::now() + PATIENCE;
        while self.screen().matches(part).count() < times {
            assert!(Instant::now() < until, "no {times} x {part:?} on the screen:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> Response {
        client::send(self.address(), &Request::get("h", path)).unwrap()
    }

    /// Asks for the end, and gives the exit code with all that the screen has shown.
    fn quit(mut self) -> (Option<i32>, String) {
        self.types("q");
        let code = self.child.wait().unwrap().code();
        let until = Instant::now() + PATIENCE;
        // The reader ends with the pipe.
        while Arc::strong_count(&self.screen) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        (code, self.screen())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended already, or a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_screen_shows_versions_requests_and_what_the_filter_asked_for() {
    let mut dev = Dev::start(&module("one", true), &[]);
    dev.awaits("live  ", 1);
    assert_eq!(dev.get("/hello").header("x-module"), Some("one"));
    dev.awaits("GET /hello", 1);
    dev.replace(&module("two", true));
    dev.awaits("changed stamp.wasm   live", 1);
    assert_eq!(dev.get("/two").header("x-module"), Some("two"));
    dev.replace(&module("three", false));
    dev.awaits("refused: ", 1);
    assert_eq!(dev.get("/three").header("x-module"), Some("two"), "the one before serves on");
    let trap = client::send(dev.address(), &Request::get("h", "/trap").header("x-trap", "1")).unwrap();
    assert_eq!(trap.status, 503);
    dev.awaits("GET /trap", 1);
    dev.types("trace");
    dev.awaits("GET /trap", 2);
    dev.types("sing");
    dev.awaits("q quit", 2);
    let (code, screen) = dev.quit();
    assert_eq!(code, Some(0));
    insta::with_settings!({
        snapshot_path => "../snapshots",
        filters => vec![
            (r" +\d+\.\d+ (s|ms)", " [TIME]"),
            (r"127\.0\.0\.1:\d+", "[ADDRESS]"),
        ]
    }, { insta::assert_snapshot!("filter_dev", screen) });
}

#[test]
fn no_request_is_lost_while_versions_take_over() {
    let dev = Dev::start(&module("v0", true), &["--trace", "off"]);
    dev.awaits("live  ", 1);
    let stop = Arc::new(AtomicBool::new(false));
    let load = |stop: Arc<AtomicBool>, address: SocketAddr| {
        std::thread::spawn(move || {
            let (mut connection, mut count) = (Connection::open(address).unwrap(), 0);
            while !stop.load(Ordering::Relaxed) {
                let response = connection.request(&Request::get("h", "/load")).unwrap();
                assert_eq!(response.status, 200);
                assert!(response.header("x-module").unwrap().starts_with('v'));
                count += 1;
            }
            count
        })
    };
    let loads: Vec<_> = (0..2).map(|_| load(stop.clone(), dev.address())).collect();
    for version in 1..=3 {
        dev.replace(&module(&format!("v{version}"), true));
        dev.awaits("changed stamp.wasm   live", version);
        assert_eq!(dev.get("/").header("x-module"), Some(&*format!("v{version}")));
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        assert!(load.join().unwrap() > 0);
    }
    assert_eq!(dev.quit().0, Some(0));
}

#[test]
fn requests_in_flight_finish_on_the_version_that_they_began_with() {
    let mut dev = Dev::start(&module("old", true), &["--quiet"]);
    dev.awaits("live  ", 1);
    dev.types("page");
    dev.awaits("page  http://", 1);
    let screen = dev.screen();
    let page = screen.split("page  http://").nth(1).unwrap().split('/').next().unwrap().parse::<SocketAddr>().unwrap();
    let mut slow = Connection::open(dev.address()).unwrap();
    slow.send(&Request::get("h", "/delay/3000").to_bytes()).unwrap();
    let active = |line: &str| line.starts_with("envoy_http_downstream_rq_active") && line.ends_with(" 1");
    let until = Instant::now() + PATIENCE;
    while !client::send(page, &Request::get(&page.to_string(), "/stats/prometheus")).unwrap().text().lines().any(active)
    {
        assert!(Instant::now() < until, "the request does not arrive");
    }
    dev.replace(&module("new", true));
    dev.awaits("   (1 request in flight finishes on the old one)", 1);
    assert_eq!(dev.get("/").header("x-module"), Some("new"));
    assert_eq!(slow.response(false).unwrap().header("x-module"), Some("old"));
    let (code, screen) = dev.quit();
    assert_eq!(code, Some(0));
    assert!(!screen.contains("GET /"), "quiet: {screen}");
}

#[test]
fn callouts_and_configuration_come_from_the_command_line_and_troubles_alone_are_traced() {
    let arguments = ["--trace", "errors", "--plugin-config", "{\"a\": 1}", "--service", "authz:9000"];
    let mut dev = Dev::start(&module("one", true), &arguments);
    dev.awaits("live  ", 1);
    dev.get("/well");
    dev.awaits("GET /well", 1);
    client::send(dev.address(), &Request::get("h", "/trap").header("x-trap", "1")).unwrap();
    dev.awaits("-> failed", 1);
    let screen = dev.screen();
    let (well, trap) = screen.split_once("GET /trap").unwrap();
    assert!(!well.contains("on_request_headers") && trap.contains("get_header(\"x-trap\")"), "{screen}");
    // The end of the input is no end of the loop.
    drop(dev.input.take());
    assert_eq!(dev.get("/").status, 200);
    let id = dev.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_filter_stands_beside_the_users_own_configuration() {
    use crate::support::config::{ANY_GATEWAY, routes};
    let folder = tempfile::tempdir().unwrap();
    let port = Port::free();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("stamp.wasm"), module("one", true)).unwrap();
    fs::write(folder.path().join("mine/gateway.yaml"), ANY_GATEWAY).unwrap();
    let answer = |body: &str| routes(&format!("- directResponse: {{status: 200, body: {{string: {body}}}}}\n"));
    fs::write(folder.path().join("mine/routes.yaml"), answer("first")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.args(["filter", "dev", "stamp.wasm", "--config", "mine", "--port-map", &format!("80={}", port.number())]);
    command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"));
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("live  ")).unwrap();
    let get = || client::send(port.address(), &Request::get("h", "/")).unwrap();
    let response = get();
    assert_eq!((response.text().as_str(), response.header("x-module")), ("first", Some("one")));
    fs::write(folder.path().join("mine/routes.yaml"), answer("second")).unwrap();
    lines.find(|line| line.starts_with("changed configuration")).unwrap();
    assert_eq!(get().text(), "second");
    writeln!(child.stdin.take().unwrap(), "quit").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
