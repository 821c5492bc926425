//! [`Keys`]: standard input as commands: single keys on a terminal, lines elsewhere.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::{Command as Process, Stdio};

use tokio::sync::mpsc;

use super::command::Command;

/// What standard input asks for, until it is dropped.
pub(super) struct Keys {
    commands: mpsc::UnboundedReceiver<Command>,
    /// Restores the terminal.
    _mode: Option<KeyMode>,
}

impl Keys {
    /// Reads on a thread of its own, which ends with the process: nothing else ends a read of a terminal.
    pub(super) fn start() -> Self {
        let mode = io::stdin().is_terminal().then(KeyMode::enter).flatten();
        let (sender, commands) = mpsc::unbounded_channel();
        let by_key = mode.is_some();
        // Without a thread there are no keys, and Ctrl-C is left.
        let _ = std::thread::Builder::new().name("keys".to_owned()).spawn(move || match by_key {
            true => read_keys(&sender),
            false => read_lines(&sender),
        });
        Self { commands, _mode: mode }
    }

    /// The next one. Never comes back after the end of the input, which ends nothing else.
    pub(super) async fn next(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

fn read_keys(sender: &mpsc::UnboundedSender<Command>) {
    for byte in io::stdin().lock().bytes().map_while(Result::ok) {
        let command = Command::of_key(byte.into());
        if command.is_some_and(|command| sender.send(command).is_err()) {
            return;
        }
    }
}

fn read_lines(sender: &mpsc::UnboundedSender<Command>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let command = Command::of_line(&line).or_else(|| (!line.trim().is_empty()).then_some(Command::Help));
        if command.is_some_and(|command| sender.send(command).is_err()) {
            return;
        }
    }
}

/// The terminal gives each key at once and does not show it. As it was before when dropped. By `stty`, which every system
/// with terminals has: where it is missing, keys want Enter after them.
struct KeyMode {
    before: String,
}

impl KeyMode {
    fn enter() -> Option<Self> {
        let before = stty(&["-g"])?;
        let mode = Self { before: before.trim().to_owned() };
        // Signals, such as Ctrl-C's, stay.
        stty(&["-icanon", "-echo", "min", "1", "time", "0"])?;
        Some(mode)
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        stty(&[&self.before]);
    }
}

/// What it answers; none when it fails.
fn stty(arguments: &[&str]) -> Option<String> {
    let mut process = Process::new("stty");
    process.args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null());
    let output = process.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
