//! What tests of the library's filters share. Those that need functions of our own are not compared: `rate-limit`, whose
//! module calls Redis, loads in Portolan and Higress only.

use crate::pair::{Answers, Case};
use crate::support::upstream::Seen;
use crate::support::wasm::built;

/// One filter of the library behind which an upstream answers 200.
pub(crate) fn case(name: &str, config: &str) -> Case {
    Case::new(name, built(&format!("filters/{name}")), config)
}

/// By request: the status of its answer.
pub(crate) fn statuses(answers: &Answers) -> Vec<u16> {
    answers.responses.iter().map(|response| response.status).collect()
}

/// A header's first value, of what an upstream saw.
pub(crate) fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
