//! `sidekeep completions`

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;

/// Print a shell completion script
#[derive(Args)]
#[command(after_help = "\
Example:
    sidekeep completions bash > ~/.local/share/bash-completion/completions/sidekeep")]
pub(crate) struct CompletionsArgs {
    /// Shell to print the script for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

/// Prints the script. `command` is the complete command line.
/// Fails if standard output cannot be written.
pub(crate) fn run(
    args: &CompletionsArgs,
    command: clap::Command,
    context: &CommandContext,
) -> Result<Outcome, CliError> {
    let report = Completions { shell: args.shell.to_string(), script: script(args.shell, command) };
    context.ui.result("completions", &report, |report| report.script.clone())?;
    Ok(Outcome::Done)
}

fn script(shell: Shell, mut command: clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "sidekeep", &mut script);
    String::from_utf8(script).expect("scripts are made of UTF-8")
}
