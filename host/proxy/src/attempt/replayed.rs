//! A body that can be sent again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;

use crate::body::Replay;
use crate::body_filter::FilteredBody;
use crate::filter_chain::Direction;
use crate::stream::Stream;

/// The body kept as it is read, with what filters make of it.
pub(super) fn replay(stream: &Rc<Stream>, timeout: Option<Duration>, body: Incoming) -> Rc<RefCell<Replay>> {
    if !stream.view.wants.request_body {
        return Replay::new(body, stream.clone());
    }
    let until = crate::deadline::after(timeout);
    Replay::filtered(FilteredBody::new(body, stream.clone(), Direction::Request, until))
}
