//! What tests of the library's filters share. Those that need functions of our own are not compared: `rate-limit`, whose
//! module calls Redis, loads in Portolan and Higress only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::pair::{Answers, Case};
use crate::support::upstream::Seen;

/// The module of a bundled filter, the very bytes that the binary has in it, as a file.
pub(crate) fn module(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundled");
    fs::create_dir_all(&folder).unwrap();
    let (new, file) = (folder.join(format!("{name}.{}", std::process::id())), folder.join(format!("{name}.wasm")));
    fs::write(&new, portolan_filters::bundled(name).unwrap()).unwrap();
    // In one step: another test may read it.
    fs::rename(new, &file).unwrap();
    file
}

/// One filter of the library behind which an upstream answers 200.
pub(crate) fn case(name: &str, config: &str) -> Case {
    Case::new(name, module(name), config)
}

/// By request: the status of its answer.
pub(crate) fn statuses(answers: &Answers) -> Vec<u16> {
    answers.responses.iter().map(|response| response.status).collect()
}

/// A header's first value, of what an upstream saw.
pub(crate) fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
