//! Calls: how streams wait for them, and what becomes of answers.

use std::cell::RefCell;
use std::rc::Rc;

use crate::prelude::*;
use crate::testing::{TestAnswer, TestHost};
use crate::{Failure, Status, root};

/// Asks `/first` of the request and, at header `x-both`, `/second` beside it; collects the request's body in parts.
struct Asker;

#[derive(Default)]
struct Seen {
    parts: Vec<Vec<u8>>,
    ends: u32,
}

thread_local! {
    static DROPPED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Says when it is dropped.
struct Captured(&'static str);

impl Drop for Captured {
    fn drop(&mut self) {
        DROPPED.with_borrow_mut(|dropped| dropped.push(self.0));
    }
}

impl Asker {
    fn judge(&self, _: &mut Seen, request: &Request<'_>, answer: &Answer<'_>) -> Result<Action, HostError> {
        match (answer.status(), answer.failure()) {
            (200, None) => Ok(Action::Continue),
            (status, None) => request.reply(&LocalReply::new(status.into()).body(answer.body()?)),
            (_, Some(Failure::TimedOut)) => request.reply(&LocalReply::new(504).details("slow")),
            (_, Some(Failure::Unavailable)) => Err(HostError { call: "authorizer", status: Status::NotFound }),
        }
    }
}

impl Filter for Asker {
    type Config = NoConfig;
    type Stream = Seen;

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) -> Seen {
        Seen::default()
    }

    fn on_request_headers(&self, _: &mut Seen, request: &Request<'_>) -> Result<Action, HostError> {
        let captured = Captured("first");
        request.call(&HttpCall::get("auth", "/first"), move |filter: &Self, stream, request, answer| {
            let _captured = captured;
            filter.judge(stream, request, answer)
        })?;
        if request.header("x-both")?.is_some() {
            request.call(&HttpCall::get("auth", "/second"), Self::judge)?;
        }
        Ok(Action::Pause)
    }

    fn on_request_body(&self, seen: &mut Seen, request: &Request<'_>) -> Result<Action, HostError> {
        seen.parts.push(request.body()?.to_vec());
        if request.body()? == b"ask" {
            return request.call(&HttpCall::get("auth", "/body"), |_: &Self, seen: &mut Seen, request, _| {
                seen.parts.push(b"asked".to_vec());
                request.prepend_body(b"may ")?;
                Ok(Action::Continue)
            });
        }
        Ok(Action::Continue)
    }

    fn on_request_trailers(&self, seen: &mut Seen, _: &Request<'_>) -> Result<Action, HostError> {
        seen.ends += 1;
        Ok(Action::Continue)
    }

    fn on_response_headers(&self, seen: &mut Seen, response: &Response<'_>) -> Result<Action, HostError> {
        let parts: Vec<_> = seen.parts.iter().map(|part| part.escape_ascii().to_string()).collect();
        response.set_header("x-parts", format!("{} {}", parts.join(","), seen.ends).as_bytes())?;
        response.call(&HttpCall::get("auth", "/response"), |_: &Self, _, response: &Response<'_>, answer| {
            response.set_header("x-answer", answer.header("x-word")?.unwrap_or(b"none"))?;
            Ok(Action::Continue)
        })
    }

    fn on_log(&self, _: &mut Seen, _: &Exchange<'_>) -> Result<(), HostError> {
        root::call(&HttpCall::post("audit", "/").body("over"), |_: &Self, answer| {
            crate::log::info(&answer.status().to_string());
            Ok(())
        })
    }
}

crate::filter! { Asker: stream, on_request_headers, on_request_body, on_request_trailers, on_response_headers, on_log, http_calls }

fn host() -> TestHost<Asker> {
    DROPPED.take();
    TestHost::start("").expect("any configuration will do")
}

fn answer(host: &TestHost<Asker>, path: &str, answer: &TestAnswer) -> bool {
    let pending = host.pending_calls();
    let call = pending.iter().find(|call| call.path == path).expect("the call is pending");
    host.answer_call(call, answer)
}

#[test]
fn a_request_waits_for_its_answer_and_goes_on_once() {
    let host = host();
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[]), Action::Pause);
    assert!(stream.is_paused());
    let call = &host.pending_calls()[0];
    assert_eq!((call.header(":method"), call.header(":authority")), (Some("GET"), Some("auth")));
    assert!(host.answer_call(call, &TestAnswer::new(200)));
    assert!(!stream.is_paused());
    assert!(!host.answer_call(call, &TestAnswer::new(200)));
    assert_eq!(host.calls().iter().filter(|call| **call == "proxy_continue_stream").count(), 1);
}

#[test]
fn a_refusal_a_timeout_and_an_error_answer_the_request() {
    let cases = [
        (TestAnswer::new(403).body(b"no"), 403, "", "no"),
        (TestAnswer::timed_out(), 504, "slow", ""),
        (TestAnswer::unavailable(), 500, "filter_error", ""),
        (TestAnswer::new(0), 500, "filter_error", ""),
    ];
    for (given, status, details, body) in cases {
        let host = host();
        let mut stream = host.stream();
        stream.request_headers(&[]);
        answer(&host, "/first", &given);
        let reply = stream.reply().expect("it is answered");
        assert_eq!((reply.status, reply.details.as_str(), reply.body.as_str()), (status, details, body));
        assert!(stream.is_paused(), "an answered request does not go on");
    }
}

#[test]
fn a_request_with_two_calls_waits_for_both_in_any_order() {
    for order in [["/first", "/second"], ["/second", "/first"]] {
        let host = host();
        let mut stream = host.stream();
        stream.request_headers(&[("x-both", "1")]);
        answer(&host, order[0], &TestAnswer::new(200));
        assert!(stream.is_paused());
        answer(&host, order[1], &TestAnswer::new(200));
        assert!(!stream.is_paused());
    }
    let host = host();
    let mut stream = host.stream();
    stream.request_headers(&[("x-both", "1")]);
    answer(&host, "/second", &TestAnswer::new(403));
    assert_eq!(DROPPED.take(), ["first"], "the other continuation has nothing more to say");
    answer(&host, "/first", &TestAnswer::new(200));
    assert_eq!(stream.reply().expect("one of them has refused").status, 403);
    assert!(!host.calls().contains(&"proxy_continue_stream"), "an answered request does not go on");
}

#[test]
fn the_continuation_of_a_stream_that_ended_is_dropped_and_its_answer_reaches_no_other() {
    let host = host();
    let mut gone = host.stream();
    gone.request_headers(&[]);
    drop(gone);
    assert_eq!(DROPPED.take(), ["first"]);
    let mut other = host.stream();
    other.request_headers(&[]);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(403));
    assert_eq!(other.reply(), None);
    assert!(other.is_paused());
}

#[test]
fn a_call_that_cannot_be_made_is_an_error_at_once() {
    let host = host();
    host.fail("proxy_http_call", Status::BadArgument);
    let mut stream = host.stream();
    stream.request_headers(&[]);
    assert_eq!(stream.reply().expect("errors fail the request").status, 500);
    assert_eq!(host.logs()[0].1, "proxy_http_call: bad argument");
    assert_eq!(DROPPED.take(), ["first"]);
}

#[test]
fn what_comes_while_a_stream_waits_is_seen_afterwards() {
    let host = host();
    let mut stream = host.stream();
    stream.request_head(&[]);
    answer(&host, "/first", &TestAnswer::new(200));
    assert_eq!(stream.request_body(b"ask", false), Action::Pause);
    assert_eq!(stream.request_body(b" more", false), Action::Pause);
    assert_eq!(stream.request_trailers(&[("t", "1")]), Action::Pause);
    answer(&host, "/body", &TestAnswer::new(200));
    assert_eq!(stream.request_body_sent(), b"may ask more");
    stream.response_headers(&[]);
    assert_eq!(stream.response_header("x-parts"), ["ask,asked,may ask more 1"]);
}

#[test]
fn a_response_waits_too() {
    let host = host();
    let mut stream = host.stream();
    assert_eq!(stream.response_headers(&[(":status", "200")]), Action::Pause);
    answer(&host, "/response", &TestAnswer::new(204).header("x-word", "hi"));
    assert_eq!(stream.response_header("x-answer"), ["hi"]);
    assert!(!stream.is_paused());
}

#[test]
fn a_call_of_the_plugin_outlives_the_stream() {
    let host = host();
    let mut stream = host.stream();
    stream.log();
    drop(stream);
    let call = host.pending_calls().remove(0);
    assert_eq!((call.upstream.as_str(), call.body.as_slice()), ("audit", b"over".as_slice()));
    host.answer_call(&call, &TestAnswer::new(202));
    assert_eq!(host.logs(), [(crate::LogLevel::Info, "202".into())]);
}

/// A continuation may hold what is not `Send`, and another call may follow in it.
struct Chain;

impl Filter for Chain {
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let words = Rc::new(RefCell::new(Vec::new()));
        request.call(&GrpcCall::new("a", "S", "M"), move |_: &Self, _, request, answer: &GrpcAnswer<'_>| {
            words.borrow_mut().push(answer.status().to_string());
            words.borrow_mut().push(String::from_utf8_lossy(answer.status_message()?).into_owned());
            request.call(&HttpCall::get("b", "/"), move |_: &Self, _, request, answer: &Answer<'_>| {
                words.borrow_mut().push(answer.status().to_string());
                request.set_header("x-words", words.borrow().join(" ").as_bytes())?;
                Ok(Action::Continue)
            })
        })
    }
}

crate::filter! { Chain: stream, on_request_headers, http_calls, grpc_calls }

#[test]
fn one_call_follows_another() {
    let host = TestHost::<Chain>::start("").expect("any configuration will do");
    let mut stream = host.stream();
    stream.request_headers(&[]);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::grpc(5).body(b"gone"));
    assert!(stream.is_paused());
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(418));
    assert_eq!(stream.request_header("x-words"), ["5 gone 418"]);
}

/// Asks about whole bodies, and about trailers.
struct Guard;

impl Filter for Guard {
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) {}

    fn on_request_body(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Whole::Complete(body) = request.whole_body(100)? else { return Ok(Action::Pause) };
        request.call(&HttpCall::post("guard", "/").body(body), |_: &Self, _, request, answer| {
            request.set_body(answer.body()?)?;
            Ok(Action::Continue)
        })
    }

    fn on_response_trailers(&self, _: &mut (), response: &Response<'_>) -> Result<Action, HostError> {
        response.call(&HttpCall::get("guard", "/"), |_: &Self, _, response: &Response<'_>, answer| {
            response.set_header("x-checked", answer.status().to_string().as_bytes())?;
            Ok(Action::Continue)
        })
    }
}

crate::filter! { Guard: stream, on_request_body, on_response_trailers, http_calls }

#[test]
fn a_whole_body_is_asked_about_whether_trailers_end_it_or_not() {
    for trailers in [false, true] {
        let host = TestHost::<Guard>::start("").expect("any configuration will do");
        let mut stream = host.stream();
        stream.request_body(b"who", false);
        assert_eq!(stream.request_body(b"le", !trailers), Action::Pause);
        if trailers {
            assert_eq!(stream.request_trailers(&[("t", "1")]), Action::Pause);
        }
        let calls = host.pending_calls();
        assert_eq!(calls.iter().map(|call| call.body.as_slice()).collect::<Vec<_>>(), [b"whole"]);
        host.answer_call(&calls[0], &TestAnswer::new(200).body(b"clean"));
        assert_eq!((stream.is_paused(), stream.request_body_sent()), (false, b"clean".to_vec()));
    }
}

#[test]
fn trailers_wait_for_a_call_and_are_changed_by_its_answer() {
    let host = TestHost::<Guard>::start("").expect("any configuration will do");
    let mut stream = host.stream();
    assert_eq!(stream.response_body(b"all", false), Action::Continue);
    assert_eq!(stream.response_trailers(&[("t", "1")]), Action::Pause);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(204));
    assert!(!stream.is_paused());
    assert_eq!(
        (stream.response_trailer("x-checked"), stream.response_header("x-checked")),
        (vec!["204".into()], vec![])
    );
}

/// Holds the head until the body is whole and a service has spoken.
struct Strict;

impl Filter for Strict {
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), _: &Request<'_>) -> Result<Action, HostError> {
        Ok(Action::Pause)
    }

    fn on_request_body(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Whole::Complete(body) = request.whole_body(100)? else { return Ok(Action::Pause) };
        request.call(&HttpCall::post("guard", "/").body(body), |_: &Self, _, request, _| {
            request.set_header("x-checked", b"1")?;
            Ok(Action::Continue)
        })
    }
}

crate::filter! { Strict: stream, on_request_headers, on_request_body, http_calls }

#[test]
fn a_head_is_held_for_the_body_where_the_host_lets_the_body_come() {
    let host = TestHost::<Strict>::start("").expect("any configuration will do");
    let mut stream = host.stream();
    assert_eq!(stream.request_head(&[(":path", "/")]), Action::Pause);
    assert_eq!(stream.request_body(b"a", false), Action::Pause);
    assert_eq!(stream.request_body(b"b", true), Action::Pause);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200));
    assert!(!stream.is_paused());
    assert_eq!((stream.request_header("x-checked"), stream.request_body_sent()), (vec!["1".into()], b"ab".to_vec()));
}
