//! Responses of services, and bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::wire::Writer;

fn header(message: &mut Writer, number: u64, name: &[u8], value: &[u8], more: impl FnOnce(&mut Writer)) {
    message.message(number, |option| {
        option.entry(1, name, value);
        more(option);
    });
}

fn mutation(name: &str, value: &str, action: Append) -> Mutation {
    Mutation { name: name.to_owned(), value: value.as_bytes().to_vec(), action }
}

#[test]
fn an_empty_answer_allows() {
    assert_eq!(Verdict::of_grpc(b""), Verdict::Allow(Changes::default()));
}

#[test]
fn an_allowed_request_is_changed_as_told() {
    let mut message = Writer::default();
    message.message(1, |_| ());
    message.message(3, |ok| {
        header(ok, 2, b"X-User", b"me", |_| ());
        header(ok, 2, b"x-old", b"1", |option| option.message(2, |flag| flag.number(1, 1)));
        header(ok, 2, b"x-set", b"1", |option| option.message(2, |_| ()));
        header(ok, 2, b"x-absent", b"1", |option| option.number(3, 1));
        header(ok, 2, b"x-over", b"1", |option| option.number(3, 2));
        header(ok, 2, b"x-if", b"1", |option| option.number(3, 3));
        header(ok, 2, b"x-new", b"1", |option| option.number(3, 9));
        ok.bytes(5, b"X-Secret");
        header(ok, 6, b"x-seen", b"1", |_| ());
        ok.entry(7, b"q", b"1");
        ok.bytes(8, b"token");
    });
    message.message(4, |data| {
        data.message(1, |entry| {
            entry.bytes(1, b"user");
            entry.message(2, |value| value.bytes(3, b"me"));
        });
    });
    let Verdict::Allow(changes) = Verdict::of_grpc(&message.into_bytes()) else { unreachable!("status 0 allows") };
    assert_eq!(
        changes.request,
        [
            mutation("x-user", "me", Append::AppendIfExistsOrAdd),
            mutation("x-old", "1", Append::JoinIfExists),
            mutation("x-set", "1", Append::OverwriteIfExistsOrAdd),
            mutation("x-absent", "1", Append::AddIfAbsent),
            mutation("x-over", "1", Append::OverwriteIfExistsOrAdd),
            mutation("x-if", "1", Append::OverwriteIfExists),
            mutation("x-new", "1", Append::OverwriteIfExistsOrAdd),
        ]
    );
    assert_eq!((changes.remove, changes.remove_query), (vec!["x-secret".to_owned()], vec!["token".to_owned()]));
    assert_eq!(changes.query, [("q".to_owned(), "1".to_owned())]);
    assert_eq!(changes.response, [mutation("x-seen", "1", Append::AppendIfExistsOrAdd)]);
    assert_eq!(changes.metadata, r#"{"user":"me"}"#);
}

#[test]
fn a_refusal_has_its_status_headers_and_body_and_403_without() {
    let refused = |fill: &dyn Fn(&mut Writer)| {
        let mut message = Writer::default();
        message.message(1, |status| status.number(1, 7));
        fill(&mut message);
        Verdict::of_grpc(&message.into_bytes())
    };
    let plain = Denial { status: 403, headers: Vec::new(), body: Vec::new() };
    assert_eq!(refused(&|_| ()), Verdict::Deny(plain.clone()));
    let full = refused(&|message| {
        message.message(2, |denied| {
            denied.message(1, |status| status.number(1, 401));
            header(denied, 2, b"www-authenticate", b"Basic", |_| ());
            denied.bytes(3, b"no");
        });
    });
    let headers = vec![mutation("www-authenticate", "Basic", Append::AppendIfExistsOrAdd)];
    assert_eq!(full, Verdict::Deny(Denial { status: 401, headers, body: b"no".to_vec() }));
    let odd = refused(&|message| message.message(2, |denied| denied.message(1, |status| status.number(1, 99))));
    assert_eq!(odd, Verdict::Deny(plain));
    assert_eq!(refused(&|message| message.message(5, |_| ())), Verdict::Error);
}

#[test]
fn what_is_no_message_is_an_error_and_never_allows() {
    assert_eq!(Verdict::of_grpc(b"\x0a\xff"), Verdict::Error);
    assert_eq!(Verdict::of_grpc(b"<html>"), Verdict::Error);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in any::<Vec<u8>>()) {
        let _ = Verdict::of_grpc(&bytes);
    }
}
