//! Answers go to standard output, all else to standard error.

use std::io::{self, ErrorKind, Write};

/// Writes an answer to standard output. A reader that has gone (`portolan man | head`) is no failure.
pub(crate) fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a remark to standard error; a closed standard error is nobody's problem.
pub(crate) fn remark(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// True when answers may be coloured: standard output is a terminal and `NO_COLOR` is not set.
pub(crate) fn color() -> bool {
    use std::io::IsTerminal;
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
