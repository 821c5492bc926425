//! The guard of HTTP/1 beside a strict reader that was written apart from it.

#[allow(dead_code, reason = "the black-box tests use the rest of it")]
#[path = "../../support/strict.rs"]
mod strict;

use portolan_proxy::{Fault, Guard};

use self::strict::{Ending, Sender, parse};

/// What a guard makes of bytes in pieces: how many go on, how many heads it saw, and what is wrong.
fn follow(bytes: &[u8], piece: usize) -> (usize, usize, Option<Fault>) {
    let (mut guard, mut passed, mut shown) = (Guard::new(), 0, 0);
    while shown < bytes.len() {
        shown = (shown + piece).min(bytes.len());
        loop {
            match guard.check(&bytes[passed..shown]) {
                Ok(length) => passed += length,
                Err((length, fault)) => return (passed + length, heads(&guard), Some(fault)),
            }
            assert!(passed <= shown, "more goes on than has come");
            if !guard.is_undecided() {
                break;
            }
            guard.go_on();
        }
    }
    (passed, heads(&guard), None)
}

fn heads(guard: &Guard) -> usize {
    usize::try_from(guard.heads()).unwrap_or(usize::MAX)
}

/// Follows any bytes, the first of which says in which pieces they come. Where messages end is the same for both, and what
/// the strict reader refuses does not go on as a head.
pub fn http1(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let (messages, _, ending) = parse(bytes, Sender::Client);
    let (_, heads, fault) = follow(bytes, usize::from(*piece).max(1));
    let (_, closely, told) = follow(bytes, 1);
    assert!(fault.is_none() || told.is_some(), "{fault:?} is not seen in pieces");
    let known = messages.len();
    match ending {
        Ending::Whole | Ending::Partial(None) if fault.is_none() => assert_eq!(heads, known),
        Ending::Partial(Some(_)) if fault.is_none() => assert_eq!(heads, known + 1),
        Ending::Whole | Ending::Partial(None) => assert!(heads <= known, "{fault:?} beyond what was understood"),
        // The guard need not see the end of a body, or of a line in it, to know that it is none.
        Ending::Partial(Some(_)) => assert!(heads <= known + 1, "{fault:?} beyond what was understood"),
        // Names of trailers are left to hyper.
        Ending::Malformed(why, Some(_)) if why.starts_with("field") => {}
        Ending::Malformed(why, _) => {
            assert!(told.is_some(), "{why} goes on");
            assert!(closely <= known + 1, "{told:?} and {why} in different places");
        }
    }
}
