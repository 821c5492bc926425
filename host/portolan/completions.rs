//! `portolan completions` and `portolan man`: made from the same definition as the command line itself.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::output;

/// Prints the completion script.
pub(crate) fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "portolan", &mut script);
    output::answer(&String::from_utf8_lossy(&script))
}

/// Prints one page for the program and, after it, one section for each command.
pub(crate) fn man() -> io::Result<()> {
    let mut command = Args::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let man = clap_mangen::Man::new(sub.clone());
        let heading = sub.get_name().to_uppercase();
        page.extend_from_slice(format!(".SH \"PORTOLAN {heading}\"\n").as_bytes());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    output::answer(&String::from_utf8_lossy(&page))
}
