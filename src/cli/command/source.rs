//! `sidekeep source`

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable};
use crate::cli::snapshot::wanted_source;
use crate::ops::access::RepositoryAccess;
use crate::ops::sources::{self, SourceLine, SourcesReport};

/// List the sources, rename one, or retire one
///
/// The first source that got a name keeps it. A later one with the same name can be named only by its id. Exits with 3 if
/// there is such a source.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep source list
    sidekeep source rename main sync --key-file admin.key
    sidekeep source retire sync --reason 'the service ended' --key-file admin.key")]
pub(crate) struct SourceCommandArgs {
    #[command(subcommand)]
    action: SourceAction,
}

#[derive(Subcommand)]
enum SourceAction {
    /// List the sources with their ids
    ///
    /// Names need a key of the repository.
    #[command(after_help = "Examples:\n    sidekeep source list --key-file auditor.key")]
    List,
    /// Give a source another name
    ///
    /// Its old name means nothing then, until an admin gives it to another source. Needs an admin or recovery key.
    #[command(after_help = "Examples:\n    sidekeep source rename main sync --key-file admin.key")]
    Rename(RenameArgs),
    /// Close a source for ever and free its name
    ///
    /// Its snapshots stay, and can be restored by the id of the source. Needs an admin or recovery key.
    #[command(after_help = "\
Examples:
    sidekeep source retire sync --reason 'the service ended' --key-file admin.key")]
    Retire(RetireArgs),
}

#[derive(Args)]
struct RenameArgs {
    /// Source: its name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    source: String,
    /// New name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Args)]
struct RetireArgs {
    /// Source: its name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    source: String,
    /// Why; everybody who can read the store sees it
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

impl SourceCommandArgs {
    /// Whether it writes to the roster.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.action, SourceAction::List)
    }
}

/// Lists, renames or retires sources.
/// Fails if the repository cannot be opened or unlocked, the source is not found, or the roster cannot be written.
pub(crate) fn run(args: &SourceCommandArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let report = match &args.action {
        SourceAction::List => list(context)?,
        SourceAction::Rename(args) => args.rename(context)?,
        SourceAction::Retire(args) => args.retire(context)?,
    };
    context.ui.result("source", &report, human)?;
    Ok(outcome(&report.findings))
}

fn list(context: &CommandContext) -> Result<SourcesReport, CliError> {
    if context.has_key()? {
        return Ok(sources::list(RepositoryAccess::WithKey(&context.unlocked()?)));
    }
    Ok(sources::list(RepositoryAccess::WithoutKey(&context.repository()?)))
}

impl RenameArgs {
    fn rename(&self, context: &CommandContext) -> Result<SourcesReport, CliError> {
        let mut unlocked = context.unlocked()?;
        let source = unlocked.find_source(Some(&wanted_source(&self.source, context)?))?;
        Ok(sources::rename(&mut unlocked, source, &self.name)?)
    }
}

impl RetireArgs {
    fn retire(&self, context: &CommandContext) -> Result<SourcesReport, CliError> {
        let mut unlocked = context.unlocked()?;
        let source = unlocked.find_source(Some(&wanted_source(&self.source, context)?))?;
        Ok(sources::retire(&mut unlocked, source, &self.reason)?)
    }
}

fn human(report: &SourcesReport) -> String {
    let mut table = TextTable::new(&[("source", Align::Left), ("name", Align::Left), ("state", Align::Left)]);
    for line in &report.sources {
        table.row([line.source.to_string(), line.name.clone().unwrap_or_default(), state(line)]);
    }
    let text = if table.is_empty() { "there are no sources yet\n".to_owned() } else { table.render() };
    text + &human_findings(&report.findings)
}

fn state(line: &SourceLine) -> String {
    if line.retired.is_some() { "retired".to_owned() } else { String::new() }
}
