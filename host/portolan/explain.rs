//! `portolan explain`: runs the real filter chain on a made-up request, and says which rule it takes and why.

mod live;
mod making;
mod table;
mod tcp;
mod text;
mod tree;

use std::process::ExitCode;

pub(crate) use self::live::Live;
pub(crate) use self::table::{NoModules, Question, Table, Verdict};
pub(crate) use self::tree::{Explanation, SharePart, source};

use crate::args::{ExplainArgs, ExplainOutput};
use crate::ask::Admin;
use crate::output;

/// Prints the explanation.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let question = Question::parse(&args.url, &args.method, &args.headers)?;
    let verdict = match &args.admin {
        Some(admin) => Admin::new(admin)?.explain(&question)?,
        None => Table::read(&args.config)?.ask(&question)?,
    };
    output::answer(&match (args.output, &verdict) {
        (ExplainOutput::Text, Verdict::Http(explanation)) => text::render(explanation),
        (ExplainOutput::Text, Verdict::Tcp(explanation)) => text::render_tcp(explanation),
        (ExplainOutput::Json, verdict) => serde_json::to_string_pretty(verdict)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
