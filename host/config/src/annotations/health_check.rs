//! The annotation `portolan.dev/health-check` of a DestinationRule or ServiceEntry: Envoy's `core.v3.HealthCheck` as YAML
//! within YAML, with names as Envoy has them or as its JSON has them (`unhealthyThreshold`).

use std::collections::BTreeMap;

use portolan_model::{CheckIntervals, HealthCheck, HealthProbe, HttpProbe, Origin};
use serde::Deserialize;

use super::{Fault, PREFIX, read};
use crate::diagnostic::{Diagnostic, Place};
use crate::duration;
use crate::plain::{self, Plain};

/// The annotations of a DestinationRule and a ServiceEntry, without the prefix.
const KNOWN: [&str; 1] = ["health-check"];

/// Those of a readiness probe of Kubernetes, which are Istio's too; Envoy has none.
const INTERVAL_MS: u64 = 10_000;
const TIMEOUT_MS: u64 = 1000;
const UNHEALTHY_THRESHOLD: u32 = 3;
const HEALTHY_THRESHOLD: u32 = 1;

/// Checks that follow each other faster are a load and no check.
const SHORTEST_MS: u64 = 10;

/// Most bytes that a TCP check sends, or waits for in one part.
const MAX_PAYLOAD: usize = 4096;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];

/// The check that the annotations ask for, whose host and origin are still empty, and what is wrong with them. What is wrong
/// is no check.
pub(crate) fn health_check(annotations: &BTreeMap<String, String>) -> (Option<HealthCheck>, Vec<Fault>) {
    let mut check = None;
    let mut within = Vec::new();
    let mut faults = read(annotations, &KNOWN, |_, _| Ok(()));
    let key = format!("{PREFIX}{}", KNOWN[0]);
    if let Some(text) = annotations.get(&key) {
        match of_text(text) {
            Ok(read) => check = Some(read),
            Err(wrong) => within = wrong,
        }
    }
    faults.extend(within.into_iter().map(|Wrong { place, message, label }| Fault {
        path: format!("metadata.annotations.{key}"),
        message,
        label,
        is_unknown: false,
        within: Some((place.line, place.column, place.length)),
    }));
    (check, faults)
}

/// Something that cannot be used, with its place in the annotation's text.
struct Wrong {
    place: Place,
    message: String,
    label: String,
}

impl From<Diagnostic> for Wrong {
    fn from(found: Diagnostic) -> Self {
        Self { place: found.place, message: found.message, label: found.help.or(found.label).unwrap_or_default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    #[serde(alias = "http_health_check", alias = "httpHealthCheck")]
    http: Option<WrittenHttp>,
    #[serde(alias = "grpc_health_check", alias = "grpcHealthCheck")]
    grpc: Option<WrittenGrpc>,
    #[serde(alias = "tcp_health_check", alias = "tcpHealthCheck")]
    tcp: Option<WrittenTcp>,
    #[serde(alias = "portValue", alias = "port_value")]
    port: Option<u16>,
    timeout: Option<String>,
    interval: Option<String>,
    #[serde(alias = "initialJitter")]
    initial_jitter: Option<String>,
    #[serde(alias = "intervalJitter")]
    interval_jitter: Option<String>,
    #[serde(alias = "intervalJitterPercent")]
    interval_jitter_percent: u32,
    #[serde(alias = "unhealthyThreshold")]
    unhealthy_threshold: Option<u32>,
    #[serde(alias = "healthyThreshold")]
    healthy_threshold: Option<u32>,
    #[serde(alias = "noTrafficInterval")]
    no_traffic_interval: Option<String>,
    #[serde(alias = "noTrafficHealthyInterval")]
    no_traffic_healthy_interval: Option<String>,
    #[serde(alias = "unhealthyInterval")]
    unhealthy_interval: Option<String>,
    #[serde(alias = "unhealthyEdgeInterval")]
    unhealthy_edge_interval: Option<String>,
    #[serde(alias = "healthyEdgeInterval")]
    healthy_edge_interval: Option<String>,
    #[serde(alias = "reuseConnection")]
    reuse_connection: Option<bool>,
    #[serde(alias = "alwaysLogHealthCheckFailures")]
    always_log_health_check_failures: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenHttp {
    path: String,
    host: String,
    method: Option<String>,
    #[serde(alias = "expectedStatuses")]
    expected_statuses: Vec<Statuses>,
    #[serde(alias = "retriableStatuses")]
    retriable_statuses: Vec<Statuses>,
    #[serde(alias = "codecClientType")]
    codec_client_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenGrpc {
    #[serde(alias = "serviceName")]
    service_name: String,
    authority: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenTcp {
    send: Option<Payload>,
    receive: Vec<Payload>,
}

/// Bytes in hexadecimal.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    text: String,
}

/// `200`, or Envoy's `{start: 200, end: 300}`, whose end is left out.
struct Statuses(u16, u16);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Range {
    start: u16,
    end: u16,
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Statuses;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status or `{start, end}`")
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<Statuses, E> {
                let status = u16::try_from(status).unwrap_or(u16::MAX);
                Ok(Statuses(status, status.saturating_add(1)))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Statuses, A::Error> {
                let Range { start, end } = Range::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Statuses(start, end))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn of_text(text: &str) -> Result<HealthCheck, Vec<Wrong>> {
    let (documents, found) = plain::read::<Written>("", text, "a health check");
    if !found.is_empty() {
        return Err(found.into_iter().map(Wrong::from).collect());
    }
    let [plain] = documents.as_slice() else {
        let place = Place { file: "".into(), line: 1, column: 1, length: 1 };
        let label = "e.g. `{http: {path: /healthz}, interval: 5s}`".to_owned();
        return Err(vec![Wrong { place, message: "a health check is one map".to_owned(), label }]);
    };
    let mut reader = Reader { plain, wrong: Vec::new() };
    let check = reader.check();
    if reader.wrong.is_empty() { Ok(check) } else { Err(reader.wrong) }
}

/// Reads fields, and keeps what is wrong with them.
struct Reader<'a> {
    plain: &'a Plain<Written>,
    wrong: Vec<Wrong>,
}

impl Reader<'_> {
    fn check(&mut self) -> HealthCheck {
        let plain = self.plain;
        let written = &plain.value;
        let (probe, host) = self.probe();
        if written.port == Some(0) {
            self.wrong("port", "0 is not a port number", "1 to 65535");
        }
        HealthCheck {
            probe,
            host,
            port: written.port,
            timeout_ms: self.time("timeout", written.timeout.as_ref(), 1).unwrap_or(TIMEOUT_MS),
            intervals: self.intervals(),
            unhealthy_threshold: self.threshold(
                "unhealthy_threshold",
                written.unhealthy_threshold,
                UNHEALTHY_THRESHOLD,
            ),
            healthy_threshold: self.threshold("healthy_threshold", written.healthy_threshold, HEALTHY_THRESHOLD),
            reuse_connection: written.reuse_connection.unwrap_or(true),
            always_log_failures: written.always_log_health_check_failures,
            origin: Origin::default(),
        }
    }

    fn intervals(&mut self) -> CheckIntervals {
        let plain = self.plain;
        let written = &plain.value;
        let mut pause = |name, text: &Option<String>| self.time(name, text.as_ref(), SHORTEST_MS);
        let interval_ms = pause("interval", &written.interval).unwrap_or(INTERVAL_MS);
        let unhealthy_ms = pause("unhealthy_interval", &written.unhealthy_interval).unwrap_or(interval_ms);
        let no_traffic = pause("no_traffic_interval", &written.no_traffic_interval);
        let healthy = pause("no_traffic_healthy_interval", &written.no_traffic_healthy_interval).or(no_traffic);
        CheckIntervals {
            interval_ms,
            unhealthy_ms,
            unhealthy_edge_ms: pause("unhealthy_edge_interval", &written.unhealthy_edge_interval)
                .unwrap_or(unhealthy_ms),
            healthy_edge_ms: pause("healthy_edge_interval", &written.healthy_edge_interval).unwrap_or(interval_ms),
            no_traffic_ms: healthy.map(|healthy| (healthy, no_traffic.unwrap_or(unhealthy_ms))),
            initial_jitter_ms: self.time("initial_jitter", written.initial_jitter.as_ref(), 0).unwrap_or(0),
            jitter_ms: self.time("interval_jitter", written.interval_jitter.as_ref(), 0).unwrap_or(0),
            jitter_percent: written.interval_jitter_percent,
        }
    }

    fn probe(&mut self) -> (HealthProbe, String) {
        let plain = self.plain;
        match (&plain.value.http, &plain.value.grpc, &plain.value.tcp) {
            (Some(http), None, None) => (HealthProbe::Http(self.http(http)), self.host("http.host", &http.host)),
            (None, Some(grpc), None) => {
                let probe = HealthProbe::Grpc { service: grpc.service_name.clone() };
                (probe, self.host("grpc.authority", &grpc.authority))
            }
            (None, None, tcp) => {
                if tcp.is_none() {
                    self.wrong(
                        "",
                        "a health check needs one of `http`, `grpc` and `tcp`",
                        "e.g. `http: {path: /healthz}`",
                    );
                }
                let send = tcp.as_ref().and_then(|tcp| tcp.send.as_ref());
                let send = send.map(|send| self.bytes("tcp.send.text", send)).unwrap_or_default();
                let receive = tcp.iter().flat_map(|tcp| &tcp.receive).enumerate();
                let receive = receive.map(|(i, part)| self.bytes(&format!("tcp.receive[{i}].text"), part)).collect();
                (HealthProbe::Tcp { send, receive }, String::new())
            }
            _ => {
                self.wrong("", "a health check is one of `http`, `grpc` and `tcp`", "leave the others out");
                (HealthProbe::Tcp { send: Vec::new(), receive: Vec::new() }, String::new())
            }
        }
    }

    fn http(&mut self, written: &WrittenHttp) -> HttpProbe {
        let is_path = written.path.starts_with('/') && written.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_path {
            self.wrong("http.path", &format!("`{}` is not a path", written.path), "a path, e.g. `/healthz`");
        }
        let method = written.method.as_deref().unwrap_or("GET");
        if !METHODS.contains(&method) {
            self.wrong(
                "http.method",
                &format!("`{method}` is not a method here"),
                &format!("one of {}", METHODS.join(", ")),
            );
        }
        let codec = written.codec_client_type.as_deref();
        if codec.is_some_and(|codec| !["HTTP1", "HTTP2"].contains(&codec)) {
            self.wrong("http.codec_client_type", "this version of HTTP is not for checks", "`HTTP1` or `HTTP2`");
        }
        let mut expected = self.statuses("http.expected_statuses", &written.expected_statuses);
        if expected.is_empty() {
            expected.push((200, 201));
        }
        HttpProbe {
            method: method.to_owned(),
            path: written.path.clone(),
            http2: codec.map(|codec| codec == "HTTP2"),
            expected,
            retriable: self.statuses("http.retriable_statuses", &written.retriable_statuses),
        }
    }

    fn statuses(&mut self, path: &str, written: &[Statuses]) -> Vec<(u16, u16)> {
        for (i, Statuses(start, end)) in written.iter().enumerate() {
            if start >= end || *start < 100 || *end > 600 {
                let label = "a status of 100 to 599, or `{start: 200, end: 300}`, whose end is left out";
                self.wrong(&format!("{path}[{i}]"), "no status is in this range", label);
            }
        }
        written.iter().map(|Statuses(start, end)| (*start, *end)).collect()
    }

    fn host(&mut self, path: &str, host: &str) -> String {
        if !host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b)) {
            self.wrong(path, &format!("`{host}` is not a host"), "a name, with or without a port");
        }
        host.to_owned()
    }

    fn bytes(&mut self, path: &str, payload: &Payload) -> Vec<u8> {
        let digits: Option<Vec<u8>> =
            payload.text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|d| !d.is_empty() && d.len().is_multiple_of(2) && d.len() <= 2 * MAX_PAYLOAD);
        let Some(digits) = digits else {
            self.wrong(path, "not bytes in hexadecimal", &format!("e.g. `50494e47`, at most {MAX_PAYLOAD} bytes"));
            return Vec::new();
        };
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// In milliseconds; none when it is not written.
    fn time(&mut self, path: &str, text: Option<&String>, least: u64) -> Option<u64> {
        let text = text?;
        let ms = duration::parse_ms(text).filter(|ms| *ms >= least);
        if ms.is_none() {
            let label = format!("a duration of at least `{least}ms`, e.g. `500ms` or `5s`");
            self.wrong(path, &format!("`{text}` is no time for this"), &label);
        }
        ms
    }

    fn threshold(&mut self, path: &str, written: Option<u32>, default: u32) -> u32 {
        if written == Some(0) {
            self.wrong(path, "0 is out of range", "at least 1");
        }
        written.unwrap_or(default)
    }

    fn wrong(&mut self, path: &str, message: &str, label: &str) {
        let place = self.plain.place(path);
        self.wrong.push(Wrong { place, message: message.to_owned(), label: label.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(text: &str) -> HealthCheck {
        of_text(text).map_err(|wrong| wrong[0].message.clone()).unwrap()
    }

    #[test]
    fn what_is_not_written_is_as_kubernetes_probes_are() {
        let check = read("http: {path: /healthz}");
        assert_eq!((check.timeout_ms, check.unhealthy_threshold, check.healthy_threshold), (1000, 3, 1));
        let intervals = check.intervals;
        assert_eq!((intervals.interval_ms, intervals.unhealthy_ms, intervals.no_traffic_ms), (10_000, 10_000, None));
        let HealthProbe::Http(http) = check.probe else { panic!("{check:?}") };
        assert_eq!((http.method.as_str(), http.expected, http.http2), ("GET", vec![(200, 201)], None));
        assert!(check.reuse_connection && !check.always_log_failures);
    }

    #[test]
    fn envoys_own_form_is_read_in_both_spellings() {
        let snake = "
timeout: 0.5s
interval: 2s
unhealthy_threshold: 2
healthy_edge_interval: 1s
no_traffic_interval: 60s
reuse_connection: false
http_health_check: {path: /x, host: a.test, expected_statuses: [{start: 200, end: 300}, 404]}
";
        let camel =
            snake.replace("unhealthy_threshold", "unhealthyThreshold").replace("_edge_interval", "EdgeInterval");
        let camel =
            camel.replace("no_traffic_interval", "noTrafficInterval").replace("reuse_connection", "reuseConnection");
        let camel =
            camel.replace("http_health_check", "httpHealthCheck").replace("expected_statuses", "expectedStatuses");
        let check = read(snake);
        assert_eq!(check, read(&camel));
        assert_eq!((check.timeout_ms, check.host.as_str(), check.intervals.healthy_edge_ms), (500, "a.test", 1000));
        assert_eq!(check.intervals.no_traffic_ms, Some((60_000, 60_000)));
        let HealthProbe::Http(http) = check.probe else { panic!("{check:?}") };
        assert_eq!(http.expected, [(200, 300), (404, 405)]);
    }

    #[test]
    fn grpc_names_a_service_and_tcp_bytes() {
        let grpc = read("{grpc: {service_name: a.B, authority: b.test}, port: 9000}");
        assert_eq!(grpc.probe, HealthProbe::Grpc { service: "a.B".to_owned() });
        assert_eq!((grpc.host.as_str(), grpc.port), ("b.test", Some(9000)));
        let tcp = read("{tcp: {send: {text: '50494e47'}, receive: [{text: '504F4E47'}]}}");
        assert_eq!(tcp.probe, HealthProbe::Tcp { send: b"PING".to_vec(), receive: vec![b"PONG".to_vec()] });
        assert_eq!(read("tcp: {}").probe, HealthProbe::Tcp { send: Vec::new(), receive: Vec::new() });
    }

    #[test]
    fn what_cannot_be_used_is_told_where_it_stands() {
        for (text, line, column, message) in [
            ("http: {path: /}\nintervall: 5s\n", 2, 1, "unknown field `intervall` in a health check"),
            ("http:\n  path: healthz\n", 2, 9, "`healthz` is not a path"),
            ("http: {path: /}\ninterval: [5]\n", 2, 12, "expected a string"),
            ("http: {path: /}\ninterval: 5ms\n", 2, 11, "no time for this"),
            ("http: {path: /}\ntcp: {}\n", 1, 1, "one of"),
            ("interval: 5s", 1, 1, "needs one of"),
            ("http: {path: /, expected_statuses: [{start: 300, end: 200}]}", 1, 38, "no status is in this range"),
            ("http: {path: /, expected_statuses: [{from: 300}]}", 1, 38, "unknown field `from`"),
            ("http: {path: /, method: CONNECT}", 1, 25, "not a method"),
            ("{tcp: {}, unhealthy_threshold: 0}", 1, 32, "out of range"),
            ("tcp: {send: {text: abc}}", 1, 20, "hexadecimal"),
            ("grpc: {authority: 'a b'}", 1, 19, "not a host"),
            ("", 1, 1, "one map"),
            ("http: [", 1, 1, ""),
        ] {
            let Err(wrong) = of_text(text) else { panic!("{text} was taken") };
            assert!(wrong[0].message.contains(message), "{text}: {}", wrong[0].message);
            if !message.is_empty() {
                assert_eq!((wrong[0].place.line, wrong[0].place.column), (line, column), "{text}");
            }
        }
    }

    #[test]
    fn places_are_those_of_the_file() {
        let told = |annotation: &str| {
            let text = format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: x\n  annotations:\n    \
                 portolan.dev/health-check: {annotation}\nspec: {{host: app}}\n"
            );
            let found = crate::ResourceSet::default().update(&crate::Sources::from_texts([("a.yaml", text.as_str())]));
            let place = |found: &Diagnostic| (found.code, found.place.line, found.place.column, found.label.clone());
            found.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(told("|\n      http: {path: /}\n      interval: 5s"), []);
        let label = Some("did you mean `interval`?".to_owned());
        assert_eq!(told("|\n      http: {path: /}\n      intervall: 5s"), [("P0124", 8, 7, label.clone())]);
        assert_eq!(told("\"{tcp: {}, intervall: 5s}\""), [("P0124", 6, 43, label)]);
    }
}
