//! `sidekeep completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::cli::args::Cli;
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};

/// Print a script that completes sidekeep's command line in your shell
#[derive(Args)]
#[command(after_help = "\
Example:
    sidekeep completions bash > ~/.local/share/bash-completion/completions/sidekeep")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

pub(crate) fn run(args: &CompletionsArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sidekeep", &mut script);
    let script = String::from_utf8(script).expect("scripts are made of UTF-8");
    let report = Completions { shell: args.shell.to_string(), script };
    context.ui.result("completions", &report, |report| report.script.clone())?;
    Ok(Outcome::Done)
}
