//! Changes of the configuration while requests run: served soon, never at the price of a request; a bad one changes
//! nothing.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;

use crate::support::await_true;
use crate::support::client::{Request, send};
use crate::support::config::{ANY_GATEWAY, CANARY, GATEWAY, HOST, app_in_cluster, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::load::Load;
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

/// Every answer carries the generation that made it.
fn generation(number: usize) -> String {
    routes(&format!(
        "- route: [{{destination: {{host: app.test}}}}]\n  headers: {{response: {{set: {{x-generation: '{number}'}}}}}}\n"
    ))
}

fn gateway(app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", generation(0))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

fn await_generation(gateway: &Gateway, number: usize) {
    gateway.await_answer("h", "/", |response| response.header("x-generation") == Some(number.to_string().as_str()));
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let load = Load::start(gateway.address(), &Request::get("h", "/load"), 4);
    for number in 1..=100 {
        match number % 2 {
            0 => gateway.replace("routes.yaml", generation(number)),
            _ => gateway.write("routes.yaml", &generation(number)),
        }
        await_generation(&gateway, number);
    }
    load.await_more(50);
    let report = load.stop();
    report.assert_no_failures();
    assert_eq!(report.reconnects, 0, "a reload closes no connection");
    assert!(report.answered > 500, "{} requests are no load", report.answered);
}

#[test]
fn a_listener_whose_port_is_taken_is_served_once_it_is_free_and_told_once() {
    let (app, port) = (Upstream::start("app"), Port::free());
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", generation(0))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .argument("--port-map")
        .argument(format!("8081={}", port.number()))
        .start();
    let any = (std::net::Ipv4Addr::UNSPECIFIED, port.number());
    let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
    // The VirtualService takes connections and requests of every Gateway by its name, and datagrams by a rule of their own.
    let server = |name: &str, protocol: &str| {
        format!("  - {{port: {{number: 8081, name: {name}, protocol: {protocol}}}, hosts: ['*']}}\n")
    };
    let text = ANY_GATEWAY.trim_end().to_owned() + "\n" + &server("more", "HTTP") + &server("datagrams", "UDP");
    let rules = generation(1) + "  tcp:\n  - route: [{destination: {host: app.test}}]\n";
    gateway.replace("routes.yaml", rules);
    gateway.replace("gateway.yaml", text);
    gateway.await_log("cannot listen on");
    gateway.await_log("cannot take datagrams on");
    let listeners = || gateway.admin("/listeners").text();
    let failed = || listeners().lines().filter(|line| line.contains("::error::")).count();
    await_true("both in /listeners", || failed() == 2);
    let failures = "envoy_listener_manager_listener_create_failure";
    let active = "envoy_listener_manager_total_listeners_active";
    assert_eq!((gateway.metric(failures, &[]), gateway.metric(active, &[])), (2.0, 1.0));
    assert_eq!(gateway.get("h", "/").header("x-generation"), Some("1"), "the rest is served");
    drop(tcp);
    let request = Request::get("h", "/");
    await_true("requests at the port", || {
        send(port.address(), &request).is_ok_and(|response| response.upstream() == "app")
    });
    await_true("one error less", || failed() == 1);
    drop(udp);
    await_true("no error", || failed() == 0 && gateway.metric(active, &[]) == 3.0);
    let log = gateway.log();
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("cannot listen on"), count("cannot take datagrams on")), (1, 1), "{log}");
    assert_eq!(count("the address is free by now"), 2, "{log}");
}

#[test]
fn weights_change_while_requests_run() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("canary.yaml", CANARY)
        .file("app.yaml", app_in_cluster(&[("v1", v1.address()), ("v2", v2.address())]))
        .start();
    let load = Load::start(gateway.address(), &Request::get(HOST, "/"), 4);
    load.await_more(100);
    gateway.replace("canary.yaml", CANARY.replace("weight: 80", "weight: 0").replace("weight: 20", "weight: 100"));
    let settled = || {
        let before = v1.requests();
        load.await_more(100);
        v1.requests() == before
    };
    crate::support::await_true("all requests to go to v2", settled);
    load.stop().assert_no_failures();
}

#[test]
fn broken_yaml_keeps_the_last_good_state_and_is_named_with_its_line() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let load = Load::start(gateway.address(), &Request::get("h", "/load"), 2);
    gateway.write(
        "routes.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: routes\nspec: [\n",
    );
    gateway.await_log("routes.yaml:");
    load.await_more(100);
    assert_eq!(gateway.get("h", "/").header("x-generation"), Some("0"));
    let dump = gateway.admin("/config_dump").text();
    assert!(dump.to_lowercase().contains("kept"), "{dump}");
    gateway.write("routes.yaml", &generation(1));
    await_generation(&gateway, 1);
    load.stop().assert_no_failures();
}

#[test]
fn one_bad_object_never_holds_up_the_others() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    gateway.write(
        "other.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: other}\nspec: {http: 7}\n",
    );
    gateway.await_log("other.yaml:4");
    gateway.write("routes.yaml", &generation(1));
    await_generation(&gateway, 1);
}

#[test]
fn a_file_written_in_parts_is_taken_when_it_is_whole() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let load = Load::start(gateway.address(), &Request::get("h", "/load"), 2);
    let whole = generation(1);
    for end in [30, 120, whole.len() - 8] {
        gateway.write("routes.yaml", &whole[..end]);
        load.await_more(60);
    }
    gateway.write("routes.yaml", &whole);
    await_generation(&gateway, 1);
    load.stop().assert_no_failures();
}

#[test]
fn a_config_map_swap_is_taken() {
    let app = Upstream::start("app");
    let mount = tempfile::tempdir().unwrap();
    let put = |folder: &str, number: usize| {
        let folder = mount.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("gateway.yaml"), ANY_GATEWAY).unwrap();
        std::fs::write(folder.join("routes.yaml"), generation(number)).unwrap();
        std::fs::write(folder.join("app.yaml"), service_entry("app.test", &[("v1", app.address())])).unwrap();
    };
    put("..2026_1", 0);
    symlink("..2026_1", mount.path().join("..data")).unwrap();
    for name in ["gateway.yaml", "routes.yaml", "app.yaml"] {
        symlink(format!("..data/{name}"), mount.path().join(name)).unwrap();
    }
    let gateway = Options::new().argument("--config").argument(mount.path().display().to_string()).start();
    await_generation(&gateway, 0);
    let load = Load::start(gateway.address(), &Request::get("h", "/load"), 2);
    for number in 1..=5 {
        let next = format!("..2026_{}", number + 1);
        put(&next, number);
        symlink(&next, mount.path().join("..data_tmp")).unwrap();
        std::fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
        std::fs::remove_dir_all(mount.path().join(format!("..2026_{number}"))).unwrap();
        await_generation(&gateway, number);
    }
    load.stop().assert_no_failures();
}

#[test]
fn new_and_removed_files_and_folders_are_noticed() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let extra = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: extra}\nspec:\n  hosts: [extra.example.com]\n  \
                 gateways: [any]\n  http: [{directResponse: {status: 200, body: {string: extra}}}]\n";
    gateway.write("extra.yaml", extra);
    gateway.await_answer("extra.example.com", "/", |response| response.text() == "extra");
    std::fs::remove_file(gateway.config().join("extra.yaml")).unwrap();
    gateway.await_answer("extra.example.com", "/", |response| response.text() != "extra");
}

#[test]
fn listeners_come_and_go_with_the_configuration() {
    use crate::support::client::send;
    use crate::support::ports::Port;
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let second = Port::free();
    let more =
        ANY_GATEWAY.replace("name: any", "name: second").replace("number: 80", &format!("number: {}", second.number()));
    gateway.write("second.yaml", &more);
    let answers = |wanted: bool| send(second.address(), &Request::get("h", "/")).is_ok() == wanted;
    crate::support::await_true("the new listener", || answers(true));
    std::fs::remove_file(gateway.config().join("second.yaml")).unwrap();
    crate::support::await_true("the end of the listener", || answers(false));
    assert_eq!(gateway.get("h", "/").status, 200);
}

#[test]
fn requests_in_flight_finish_on_the_state_they_began_with() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/old").order("delay 1500").to_bytes()).unwrap();
    crate::support::await_true("the old request", || app.in_flight() == 1);
    gateway.replace("routes.yaml", generation(1));
    await_generation(&gateway, 1);
    assert_eq!(connection.response(false).unwrap().header("x-generation"), Some("0"));
    assert_eq!(connection.request(&Request::get("h", "/new")).unwrap().header("x-generation"), Some("1"));
}

/// Two hosts, each with a rule for each of these paths.
fn two_hosts(rules: [&[&str]; 2]) -> String {
    let service = |(host, paths): (&str, &[&str])| {
        let rule = |path: &&str| {
            format!(
                "  - match: [{{uri: {{prefix: /{path}}}}}]\n    directResponse: {{status: 200, body: {{string: {host}-{path}}}}}\n"
            )
        };
        let rules: String = paths.iter().map(rule).collect();
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}}}\nspec:\n  hosts: [{host}.test]\n  gateways: [any]\n  http:\n{rules}"
        )
    };
    ["a", "b"].into_iter().zip(rules).map(service).collect()
}

#[test]
fn rules_of_one_host_come_and_go_while_another_host_is_asked() {
    let gateway =
        Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", two_hosts([&["one"], &["kept"]])).start();
    let load = Load::start(gateway.address(), &Request::get("b.test", "/kept"), 4);
    let await_status = |path: &str, status: u16| {
        gateway.await_answer("a.test", path, |response| response.status == status);
    };
    await_status("/one", 200);
    for _ in 0..5 {
        gateway.replace("routes.yaml", two_hosts([&["two", "one"], &["kept"]]));
        await_status("/two", 200);
        gateway.replace("routes.yaml", two_hosts([&["two"], &["kept"]]));
        await_status("/one", 404);
        gateway.replace("routes.yaml", two_hosts([&["one"], &["new", "kept"]]));
        await_status("/two", 404);
        await_status("/one", 200);
        gateway.await_answer("b.test", "/new", |response| response.text() == "b-new");
        gateway.replace("routes.yaml", two_hosts([&["one"], &["kept"]]));
        gateway.await_answer("b.test", "/new", |response| response.status == 404);
    }
    load.await_more(50);
    load.stop().assert_no_failures();
}
