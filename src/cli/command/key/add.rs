//! `sidekeep key add`

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use crate::base::id::SourceId;
use crate::base::role::{Role, SourceScope};
use crate::cli::command::key::list::epochs;
use crate::cli::command::key::new_key_file::{NewKeyFile, NewPassphraseArgs, WrittenKey};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::render::printable;
use crate::cli::snapshot::wanted_source;
use crate::ops::keys::add::{self, EnrolledReport, KeyRequest};
use crate::repo::open::Unlocked;

/// Enrol a new key, or give an operator a further source
///
/// Writes the new key to a file that only you can read, and grants it every epoch. Without --source, an operator is enrolled
/// for all sources. With the name of an operator's key instead of --role, that key gets the sources of --source besides
/// those that it has. Needs an admin or recovery key, and a recovery key to enrol a recovery key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep key add --role operator --label 'host b' --to host-b.key --key-file admin.key
    sidekeep key add --role operator --label 'host c' --source main --to host-c.key --key-file admin.key
    sidekeep key add 'host c' --source archive --key-file admin.key
    sidekeep key add --role admin --label 'Ana' --to ana.key --ask-passphrase --key-file admin.key")]
pub(super) struct KeyAddArgs {
    /// Operator's key that gets further sources: its id, the beginning of its id, or its label
    #[arg(conflicts_with_all = ["role", "label", "to"], requires = "source")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// What the new key is for: operator, maintainer, admin, auditor or recovery
    #[arg(long, required_unless_present = "key")]
    role: Option<Role>,
    /// Name of the new key for people; no other key has it. Everybody who can read the store sees it
    #[arg(long, value_name = "TEXT", required_unless_present = "key", value_parser = NonEmptyStringValueParser::new())]
    label: Option<String>,
    /// New file for the key. An existing file is never overwritten
    #[arg(long, value_name = "FILE", required_unless_present = "key")]
    to: Option<PathBuf>,
    /// Source that an operator is enrolled for; may be repeated
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    source: Vec<String>,
    #[command(flatten)]
    passphrase: NewPassphraseArgs,
}

#[derive(Serialize)]
struct KeyAddDocument {
    #[serde(flatten)]
    report: EnrolledReport,
    /// The new key file.
    file: Option<PathBuf>,
}

/// Enrols a key, or gives one further sources.
/// Fails if the repository cannot be unlocked, a source is not found, the file exists, or the roster cannot be written.
pub(super) fn run(args: &KeyAddArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut unlocked = context.unlocked()?;
    let sources = args.sources(&unlocked, context)?;
    let document = match (&args.key, args.role, &args.label, &args.to) {
        (None, Some(role), Some(label), Some(to)) => {
            let scope = scope(role, sources)?;
            args.enrol(&mut unlocked, &KeyRequest { role, label, scope }, to, context)?
        }
        (key, ..) => {
            let key = key.as_deref().unwrap_or_default();
            KeyAddDocument { report: add::extend(&mut unlocked, key, &sources)?, file: None }
        }
    };
    context.ui.result("key-add", &document, human)?;
    Ok(Outcome::Done)
}

impl KeyAddArgs {
    fn sources(&self, unlocked: &Unlocked, context: &CommandContext) -> Result<Vec<SourceId>, CliError> {
        let mut sources = Vec::new();
        for name in &self.source {
            sources.push(unlocked.find_source(Some(&wanted_source(name, context)?))?);
        }
        Ok(sources)
    }

    fn enrol(
        &self,
        unlocked: &mut Unlocked,
        request: &KeyRequest<'_>,
        to: &std::path::Path,
        context: &CommandContext,
    ) -> Result<KeyAddDocument, CliError> {
        let identity = add::generate(unlocked, request)?;
        let file = NewKeyFile::reserve(to, self.passphrase.passphrase()?)?;
        let written = file.write(context, &identity, request.label, add::fingerprint(unlocked))?;
        let enrolled = add::enrol(unlocked, written.identity, request);
        let report = WrittenKey::enrolled(&written.file, enrolled, context)?;
        Ok(KeyAddDocument { report, file: Some(written.file) })
    }
}

fn scope(role: Role, sources: Vec<SourceId>) -> Result<SourceScope, CliError> {
    match (role, sources.is_empty()) {
        (_, true) => Ok(SourceScope::All),
        (Role::Operator, false) => Ok(SourceScope::Named(sources)),
        (_, false) => Err(CliError::usage("only operators are limited to sources", "leave --source out")),
    }
}

fn human(document: &KeyAddDocument) -> String {
    let report = &document.report;
    let mut text = format!("{} key {} ({})\n", report.role, report.key, printable(&report.label));
    text += &format!("granted epochs  {}\n", epochs(&report.epochs));
    if !report.not_granted.is_empty() {
        text +=
            &format!("not granted     {} (the key of this command cannot open them)\n", epochs(&report.not_granted));
    }
    if let Some(file) = &document.file {
        text += &format!("key file        {}\nMove it to where it is used, and remove it here.\n", file.display());
    }
    text
}
