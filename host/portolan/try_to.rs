//! `portolan try --to ADDR`: one line in front of an existing backend; prints the resources that it makes up.

use std::process::ExitCode;

use anyhow::Context;

use crate::args::{ConfigArgs, TryArgs};
use crate::run::{self, Service};
use crate::{output, starter};

/// Serves until it is stopped.
pub(crate) fn try_to(args: &TryArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("portolan-try-").tempdir().context("cannot make a folder")?;
    let starter = starter::front(args.listen, &args.host, &args.to);
    starter::write_new(folder.path(), &starter).context("cannot write the resources")?;
    let file = folder.path().join(starter.name);
    let config = ConfigArgs { config: vec![folder.path().to_owned()], ..ConfigArgs::default() };
    let answer =
        format!("# http://{} -> {}; edit {} and save\n{}", args.listen, starter.about, file.display(), starter.text);
    run::runtime()?.block_on(Service::interactive(&config, &args.serve).serve(move || output::answer(&answer)))
}
