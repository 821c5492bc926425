//! [`Held`]: a stream that waits for the filter itself.

use std::fmt;
use std::marker::PhantomData;

use crate::call::Hold;
use crate::dispatch::{self, Makes};

/// A stream that waits until the filter lets it go on: for something that many streams wait for at once, such as a first key
/// set, or for a tick. Made by [`Request::hold`](crate::Request::hold) and [`Response::hold`](crate::Response::hold).
///
/// When the stream ends meanwhile its continuation is dropped, and [`resume`](Self::resume) does nothing. A `Held` that is
/// dropped leaves its stream to the host's limit for paused streams.
///
/// ```
/// use std::cell::RefCell;
/// use portolan_sdk::prelude::*;
/// use portolan_sdk::{Held, root};
///
/// /// Asks once for a word that all requests wait for.
/// struct Word {
///     word: RefCell<Option<String>>,
///     waiting: RefCell<Vec<Held<Word>>>,
/// }
///
/// impl Word {
///     fn write(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         match self.word.borrow().as_deref() {
///             Some(word) => request.set_header("x-word", word.as_bytes())?,
///             None => return request.reply(&LocalReply::new(503)),
///         }
///         Ok(Action::Continue)
///     }
/// }
///
/// impl Filter for Word {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self { word: RefCell::default(), waiting: RefCell::default() })
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         if self.word.borrow().is_some() {
///             return self.write(&mut (), request);
///         }
///         let mut waiting = self.waiting.borrow_mut();
///         if waiting.is_empty() {
///             root::call(&HttpCall::get("outbound|80||word.test", "/"), |filter: &Self, answer| {
///                 let word = answer.header_str("x-word")?.map(str::to_owned);
///                 filter.word.replace(word);
///                 filter.waiting.take().into_iter().for_each(Held::resume);
///                 Ok(())
///             })?;
///         }
///         waiting.push(request.hold(Self::write));
///         Ok(Action::Pause)
///     }
/// }
///
/// portolan_sdk::filter! { Word: stream, on_request_headers, http_calls, holds }
///
/// use portolan_sdk::testing::{TestAnswer, TestHost};
/// let host = TestHost::<Word>::start("").expect("any configuration will do");
/// let (mut one, mut two) = (host.stream(), host.stream());
/// assert_eq!(one.request_headers(&[]), Action::Pause);
/// assert_eq!(two.request_headers(&[]), Action::Pause);
/// assert_eq!(host.pending_calls().len(), 1);
/// host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).header("x-word", "hi"));
/// assert_eq!((one.request_header("x-word"), two.request_header("x-word")), (vec!["hi".into()], vec!["hi".into()]));
/// assert!(!one.is_paused() && !two.is_paused());
/// ```
pub struct Held<F> {
    id: u32,
    filter: PhantomData<fn() -> F>,
}

impl<F: Makes<Hold>> Held<F> {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, filter: PhantomData }
    }

    /// Runs the stream's continuation now, and lets the stream go on when it says so. From a callback of the plugin itself, or
    /// of another stream.
    pub fn resume(self) {
        dispatch::let_go::<F>(self.id);
    }
}

impl<F> fmt::Debug for Held<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}
