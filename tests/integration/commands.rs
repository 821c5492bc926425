//! `demo` and `try`, as somebody uses them who has never seen Portolan.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use crate::support::client::{Request, Response, send};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;
use crate::support::{await_some, await_true};

/// A command that serves until it is killed.
struct Serving {
    child: Child,
    folder: tempfile::TempDir,
    listen: Port,
    _admin: Port,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, admin) = (Port::free(), Port::free());
        let child = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(arguments)
            .args(["--listen", &listen.address().to_string(), "--admin-address", &admin.address().to_string()])
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let serving = Self { child, folder, listen, _admin: admin };
        await_true("an answer", || send(serving.listen.address(), &Request::get("h", "/")).is_ok());
        serving
    }

    fn get(&self, target: &str) -> Response {
        send(self.listen.address(), &Request::get("localhost", target)).unwrap()
    }

    fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_splits_and_serves_edits_of_its_files() {
    let demo = Serving::start(&["demo"]);
    let of_v2 = || (0..100).filter(|_| demo.get("/").text().contains("v2")).count();
    let share = of_v2();
    assert!((4..=40).contains(&share), "{share} of 100 from v2");
    let banner = await_some("the banner", || Some(demo.stdout()).filter(|text| text.contains("Ctrl-C")));
    let routes = banner.split_whitespace().find(|word| word.ends_with("routes.yaml")).unwrap();
    let folder = std::path::Path::new(routes).parent().unwrap();
    let explain = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["explain", "--url", &format!("http://{}/hello", demo.listen.address()), "--config"])
        .arg(folder)
        .output()
        .unwrap();
    let explained = String::from_utf8(explain.stdout).unwrap();
    assert!(explained.contains("routes.yaml:") && explained.contains("80 %"), "{explained}");
    let text = fs::read_to_string(routes).unwrap();
    fs::write(routes, text.replace("weight: 80", "weight: 0").replace("weight: 20", "weight: 100")).unwrap();
    await_true("everything from v2", || of_v2() == 100);
}

#[test]
fn try_stands_in_front_of_a_backend_and_prints_its_resources() {
    let app = Upstream::start("app");
    let serving = Serving::start(&["try", "--to", &app.address().to_string()]);
    let response = serving.get("/some/path");
    assert_eq!((response.status, response.upstream()), (200, "app"));
    assert_eq!(response.seen_request_line(), "GET /some/path HTTP/1.1");
    let printed =
        await_some("the resources", || Some(serving.stdout()).filter(|text| text.contains("kind: ServiceEntry")));
    assert!(printed.contains("kind: Gateway") && printed.contains("kind: VirtualService"), "{printed}");
}
