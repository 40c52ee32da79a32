//! `sidekeep key rotate`

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use crate::cli::command::key::list::epochs;
use crate::cli::command::key::new_key_file::{NewKeyFile, NewPassphraseArgs, WrittenKey};
use crate::cli::command::key::revoke::{ReasonWord, human_consequences, human_ledgers};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::printable;
use crate::ops::keys::add::{self, KeyRequest};
use crate::ops::keys::rotate::{self, RotationReport};

/// Replace a key by a new one
///
/// Enrols a new key for the same role and sources, grants it every epoch, and revokes the old one. Nothing is uploaded again
/// if the old key is only retired. If it was lost or stolen, this also opens a new epoch for all other keys, so the next
/// backup of every source is a full upload. Needs an admin or recovery key, and a recovery key to replace a recovery key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep key rotate --to admin-2.key --key-file admin.key
    sidekeep key rotate 'host b' --to host-b2.key --key-file admin.key
    sidekeep key rotate 'host b' --to host-b2.key --reason stolen --key-file admin.key")]
pub(super) struct KeyRotateArgs {
    /// Key to replace: its id, the beginning of its id, or its label. Without it, the key that this command is given
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// New file for the new key. An existing file is never overwritten
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Why the old key is replaced
    #[arg(long, default_value = "retired")]
    reason: ReasonWord,
    /// Name of the new key for people. Without it, the label of the old key with another number
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    label: Option<String>,
    #[command(flatten)]
    passphrase: NewPassphraseArgs,
}

#[derive(Serialize)]
struct KeyRotateDocument {
    #[serde(flatten)]
    report: RotationReport,
    /// The new key file.
    file: PathBuf,
}

/// Replaces a key. Says what follows before it writes.
/// Fails if the repository cannot be unlocked, the key is not found or may not be replaced, the file exists, or the roster
/// cannot be written.
pub(super) fn run(args: &KeyRotateArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut unlocked = context.unlocked()?;
    let mut plan = rotate::plan(&unlocked, args.key.as_deref(), args.reason.reason())?;
    if let Some(label) = &args.label {
        plan.label.clone_from(label);
    }
    let request = KeyRequest { role: plan.role, label: &plan.label, scope: plan.scope.clone() };
    let identity = add::generate(&unlocked, &request)?;
    context.ui.say(&human_consequences(&plan.consequences))?;
    let file = NewKeyFile::reserve(&args.to, args.passphrase.passphrase()?)?;
    let written = file.write(context, &identity, &plan.label, add::fingerprint(&unlocked))?;
    let rotated = rotate::rotate(&mut unlocked, written.identity, &plan);
    let report = WrittenKey::enrolled(&written.file, rotated, context)?;
    let document = KeyRotateDocument { report, file: written.file };
    context.ui.result("key-rotate", &document, human)?;
    Ok(outcome(&document.report.findings))
}

fn human(document: &KeyRotateDocument) -> String {
    let RotationReport { new, old, opened, ledgers, findings, .. } = &document.report;
    let mut text = format!("{} key {} ({}) takes the place of {old}\n", new.role, new.key, printable(&new.label));
    text += &format!("granted epochs  {}\n", epochs(&new.epochs));
    if let Some(epoch) = opened {
        text += &format!("opened epoch    {epoch}\n");
    }
    text += &format!("key file        {}\n", document.file.display());
    text + &human_ledgers(ledgers) + &human_findings(findings)
}
