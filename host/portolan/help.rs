//! `portolan help`: the help of commands, and what the codes of findings mean, from pages within the binary.

use std::process::ExitCode;

use clap::{Command, CommandFactory};

use crate::UsageError;
use crate::args::Args;
use crate::output;

mod pages {
    include!(concat!(env!("OUT_DIR"), "/codes.rs"));
}

/// Without a word the whole command line; `P0204` in any case is a code; all else is a command and its subcommands.
pub(crate) fn help(words: &[String]) -> anyhow::Result<ExitCode> {
    let text = match words {
        [code] if is_code(code) => page(code)?,
        words => command(words)?,
    };
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn is_code(word: &str) -> bool {
    let digits = word.strip_prefix(['P', 'p']);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn page(code: &str) -> Result<String, UsageError> {
    let code = code.to_ascii_uppercase();
    let found = pages::PAGES.iter().find(|(known, _)| *known == code);
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
        let near = nearest(&code);
        UsageError(format!("there is no code `{code}`; did you mean `{near}`?"))
    })
}

/// The code with the nearest number, the lower one of two.
fn nearest(code: &str) -> &'static str {
    let number = |code: &str| code[1..].parse::<u32>().unwrap_or(u32::MAX);
    let wanted = number(code);
    let all = pages::PAGES.iter().map(|(known, _)| *known);
    all.min_by_key(|known| number(known).abs_diff(wanted)).unwrap_or_default()
}

fn command(words: &[String]) -> Result<String, UsageError> {
    let mut whole = Args::command();
    whole.build();
    let mut found: &mut Command = &mut whole;
    for word in words {
        let names: Vec<String> = found.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let Some(inner) = found.find_subcommand_mut(word) else {
            return Err(UsageError(format!("there is no command `{word}`; known: {}", names.join(", "))));
        };
        found = inner;
    }
    Ok(found.render_long_help().to_string())
}
