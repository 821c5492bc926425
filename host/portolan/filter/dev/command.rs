//! [`Command`]: what the author can ask for, by a key or by a line.

/// One wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Build again, whether something changed or not.
    Rebuild,
    /// Run the project's cases.
    Tests,
    /// Show the last request again, with all of its trace.
    Trace,
    /// Make a case of the last request.
    Save,
    /// Measure.
    Bench,
    /// Say where the admin page is.
    Page,
    /// Say what can be asked for.
    Help,
    /// End.
    Quit,
}

/// Key, word, command.
const COMMANDS: [(char, &str, Command); 8] = [
    ('r', "rebuild", Command::Rebuild),
    ('t', "tests", Command::Tests),
    ('x', "trace", Command::Trace),
    ('s', "save", Command::Save),
    ('b', "bench", Command::Bench),
    ('o', "page", Command::Page),
    ('h', "help", Command::Help),
    ('q', "quit", Command::Quit),
];

/// What is shown of them.
pub(super) const KEYS: &str = "r rebuild  t tests  x trace last  s save as case  b bench  o page  q quit";

impl Command {
    /// By its key.
    pub(super) fn of_key(key: char) -> Option<Self> {
        COMMANDS.iter().find(|(known, _, _)| *known == key.to_ascii_lowercase()).map(|(_, _, command)| *command)
    }

    /// By its key or its word, alone on a line.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let line = line.trim();
        let is_meant = |(key, word, _): &&(char, &str, Self)| {
            line.eq_ignore_ascii_case(word) || line.len() == 1 && line.starts_with(*key)
        };
        COMMANDS.iter().find(is_meant).map(|(_, _, command)| *command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_words_mean_the_same() {
        for (key, word, command) in COMMANDS {
            assert_eq!(Command::of_key(key), Some(command));
            assert_eq!(Command::of_key(key.to_ascii_uppercase()), Some(command));
            assert_eq!(Command::of_line(&format!(" {key}\n")), Some(command));
            assert_eq!(Command::of_line(word), Some(command));
        }
        assert_eq!((Command::of_key('\n'), Command::of_line(""), Command::of_line("quite")), (None, None, None));
    }
}
