//! A filter that uses what the SDK offers, one part for each path.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use portolan_sdk::metrics::{Counter, Family, Gauge, Histogram};
use portolan_sdk::prelude::*;
use portolan_sdk::{Failure, Held, SetCookie, percent_decode, root, shared, timer};

/// Whom to ask.
#[derive(serde::Deserialize)]
pub struct Config {
    /// A cluster that speaks HTTP.
    auth: String,
    /// A cluster that speaks gRPC.
    #[serde(default)]
    echo: String,
    /// Whether it ticks, and makes a call of its own at the first tick.
    #[serde(default)]
    ticks: bool,
}

/// The filter.
pub struct Guest {
    config: Config,
    requests: Family<Counter>,
    large: Counter,
    sizes: Histogram,
    ticks: Gauge,
    told: Cell<bool>,
    waiting: RefCell<Vec<Held<Guest>>>,
    all: shared::Counter,
}

/// The path of the request.
type Path = Vec<u8>;

impl Filter for Guest {
    type Config = Config;
    type Stream = Path;

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        if config.ticks {
            timer::every(Duration::from_millis(20))?;
        }
        Ok(Self {
            config,
            requests: Counter::named("guest_requests_total").by("path", 3),
            large: Counter::named("guest_refused_total").with(&[("reason", "too large")])?,
            sizes: Histogram::named("guest_body_bytes").with(&[("side", "request")])?,
            ticks: Gauge::define("guest_ticks")?,
            told: Cell::new(false),
            waiting: RefCell::default(),
            all: shared::Counter::new("requests"),
        })
    }

    fn stream(&self) -> Path {
        Vec::new()
    }

    fn on_request_headers(&self, path: &mut Path, request: &Request<'_>) -> Result<Action, HostError> {
        path.extend_from_slice(request.path()?);
        self.requests.of(&path.escape_ascii().to_string())?.increment()?;
        request.set_header("x-count", self.all.add(1)?.to_string().as_bytes())?;
        match path.as_slice() {
            b"/two" => request.call(&HttpCall::get(&self.config.auth, "/one"), Self::on_first),
            b"/both" => {
                for path in ["/left", "/right"] {
                    request.call(&HttpCall::get(&self.config.auth, path), Self::on_either)?;
                }
                Ok(Action::Pause)
            }
            b"/fail" => {
                let call = HttpCall::get(&self.config.auth, "/").timeout(Duration::from_millis(100));
                request.call(&call, |_: &Self, _, request, answer| {
                    let details = match answer.failure() {
                        Some(Failure::TimedOut) => "timed_out",
                        Some(Failure::Unavailable) => "unavailable",
                        None => "answered",
                    };
                    request.reply(&LocalReply::new(answer.status().into()).body(details.as_bytes()))
                })
            }
            b"/nobody" => request.call(&HttpCall::get("outbound|80||nobody.test", "/"), Self::on_first),
            b"/grpc" => {
                let call = GrpcCall::new(&self.config.echo, "test.Echo", "Say").message("hello");
                request.call(&call, |_: &Self, _, request, answer: &GrpcAnswer<'_>| {
                    let message = [&[b'0' + answer.status() as u8, b' '], answer.message()?].concat();
                    request.set_header("x-echo", &message)?;
                    Ok(Action::Continue)
                })
            }
            b"/held" => {
                let held = request.hold(|guest: &Self, _, request| {
                    request.set_header("x-held", guest.ticks.value()?.to_string().as_bytes())?;
                    Ok(Action::Continue)
                });
                self.waiting.borrow_mut().push(held);
                Ok(Action::Pause)
            }
            b"/ask" | b"/ask/once" => {
                // The body will be longer: Envoy leaves the length to the filter.
                request.remove_header("content-length")?;
                Ok(Action::Continue)
            }
            b"/typed/a%20b" => self.typed(request),
            _ => Ok(Action::Continue),
        }
    }

    fn on_request_body(&self, path: &mut Path, request: &Request<'_>) -> Result<Action, HostError> {
        match path.as_slice() {
            b"/whole" => match request.whole_body(1_000)? {
                Whole::Waiting => Ok(Action::Pause),
                Whole::Complete(body) => {
                    self.sizes.record(body.len() as u64)?;
                    request.reply(&LocalReply::new(200).body(&body.to_ascii_uppercase()))
                }
                Whole::TooLarge => {
                    self.large.increment()?;
                    request.reply(&LocalReply::new(413).body(b"the filter's limit"))
                }
            },
            b"/ask" | b"/ask/once" if request.body_part(0, 3)? == b"ask" => request.call(
                &HttpCall::get(&self.config.auth, "/body"),
                |_: &Self, path: &mut Path, request, answer| {
                    request.prepend_body(answer.header("x-upstream")?.unwrap_or(b"nobody"))?;
                    // What comes after the answer is seen by another branch.
                    *path = if path == b"/ask" { b"/asked".to_vec() } else { b"/done".to_vec() };
                    Ok(Action::Continue)
                },
            ),
            b"/asked" => {
                request.append_body(b"!")?;
                Ok(Action::Continue)
            }
            _ => Ok(Action::Continue),
        }
    }

    fn on_response_headers(&self, path: &mut Path, response: &Response<'_>) -> Result<Action, HostError> {
        if path == b"/response" {
            return response.call(
                &HttpCall::get(&self.config.auth, "/late"),
                |_: &Self, _, response: &Response<'_>, answer| {
                    response.set_header("x-late", answer.header("x-upstream")?.unwrap_or_default())?;
                    response.set_cookie(&SetCookie::new("seen", "1").path("/"))?;
                    Ok(Action::Continue)
                },
            );
        }
        Ok(Action::Continue)
    }

    fn on_response_body(&self, path: &mut Path, response: &Response<'_>) -> Result<Action, HostError> {
        if path == b"/upper" {
            response.set_body(&response.body()?.to_ascii_uppercase())?;
        }
        Ok(Action::Continue)
    }

    fn on_tick(&self) -> Result<(), HostError> {
        self.ticks.add(1)?;
        self.waiting.take().into_iter().for_each(Held::resume);
        if self.told.replace(true) {
            return Ok(());
        }
        let call = HttpCall::post(&self.config.auth, "/told").header("x-order", "status 202").body("once");
        root::call(&call, |guest: &Self, answer| {
            portolan_sdk::log::info(&format!("told {} in VM of {}", answer.status(), guest.config.auth));
            Ok(())
        })
    }
}

impl Guest {
    fn on_first(&self, _: &mut Path, request: &Request<'_>, answer: &Answer<'_>) -> Result<Action, HostError> {
        let first = answer.header("x-upstream")?.unwrap_or_default().to_vec();
        let second = HttpCall::get(&self.config.auth, "/second").header("x-order", "status 418");
        request.call(&second, move |_: &Self, path: &mut Path, request, answer| {
            let words = [first.as_slice(), b" ", answer.status().to_string().as_bytes(), b" ", path].concat();
            request.set_header("x-words", &words)?;
            Ok(Action::Continue)
        })
    }

    fn on_either(&self, path: &mut Path, request: &Request<'_>, _: &Answer<'_>) -> Result<Action, HostError> {
        path.push(b'+');
        request.set_header("x-path", path)?;
        Ok(Action::Continue)
    }

    /// Everything that is read by name and type, in one line.
    fn typed(&self, request: &Request<'_>) -> Result<Action, HostError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let segments: Vec<_> = request.segments()?.map(|segment| text(&percent_decode(segment))).collect();
        let words = [
            segments.join(","),
            request.params()?.all("q").map(|value| text(&value)).collect::<Vec<_>>().join(","),
            text(request.cookie("b")?.unwrap_or_default()),
            request.header_list("x-list")?.map(text).collect::<Vec<_>>().join(","),
            request.header_as::<u32>("x-number")?.map_or_else(String::new, |number| number.to_string()),
            text(request.host()?),
            request.source_ip()?.map_or_else(String::new, |ip| ip.to_string()),
            request.is_tls()?.to_string(),
            request.cluster_name()?.unwrap_or_default().to_owned(),
        ];
        request.remove_headers("x-secret-")?;
        request.set_header("x-typed", words.join(" ").as_bytes())?;
        Ok(Action::Continue)
    }
}

portolan_sdk::filter! { Guest:
    stream,
    on_request_headers,
    on_request_body,
    on_response_headers,
    on_response_body,
    on_tick,
    http_calls,
    grpc_calls,
    holds,
}
