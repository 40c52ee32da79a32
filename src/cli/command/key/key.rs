//! The subcommands of `sidekeep key`.

use clap::{Args, Subcommand};

use crate::cli::command::key::{add, check, list, passphrase, revoke, rotate};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;

/// List, add, revoke, replace or check keys
///
/// Names of keys: an id, its beginning (at least 4 digits), or a label.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep key list
    sidekeep key add --role operator --label 'host b' --to host-b.key --key-file admin.key
    sidekeep key rotate 'host b' --to host-b2.key --key-file admin.key
    sidekeep key revoke 'host b 2' --reason stolen --key-file admin.key
    sidekeep key check --key-file auditor.key")]
pub(crate) struct KeyCommandArgs {
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Subcommand)]
enum KeyAction {
    List(list::KeyListArgs),
    Add(add::KeyAddArgs),
    Revoke(revoke::KeyRevokeArgs),
    Rotate(rotate::KeyRotateArgs),
    Check(check::KeyCheckArgs),
    Passphrase(passphrase::KeyPassphraseArgs),
}

impl KeyCommandArgs {
    /// Whether it writes to the repository.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.action, KeyAction::List(_) | KeyAction::Check(_) | KeyAction::Passphrase(_))
    }
}

/// Runs a subcommand.
/// Fails as the subcommand does.
pub(crate) fn run(args: &KeyCommandArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    match &args.action {
        KeyAction::List(args) => list::run(args, context),
        KeyAction::Add(args) => add::run(args, context),
        KeyAction::Revoke(args) => revoke::run(args, context),
        KeyAction::Rotate(args) => rotate::run(args, context),
        KeyAction::Check(args) => check::run(args, context),
        KeyAction::Passphrase(args) => passphrase::run(args, context),
    }
}
