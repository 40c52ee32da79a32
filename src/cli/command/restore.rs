//! `sidekeep restore`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PathBufValueParser, RangedU64ValueParser};
use serde::Serialize;

use crate::base::finding::Finding;
use crate::base::id::SourceId;
use crate::cli::context::{CommandContext, Monitor};
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{moment, plural, printable, short};
use crate::cli::snapshot::SnapshotArgs;
use crate::cli::target::{FileFormat, RestoreTarget};
use crate::engine::postgres::restore::{Globals, Owners, Resume, TargetOptions};
use crate::ops::restore::{self, RestoreOptions, RestoreReport};
use crate::ops::select::Selector;
use crate::repo::open::Unlocked;

/// Restore a snapshot to an empty database, a new file or a new directory
///
/// Needs only the store and an admin or recovery key, not the live service. Never overwrites existing data. Only a
/// snapshot of a PostgreSQL database can be restored to PostgreSQL.
///
/// If the target refuses a row, or data is damaged, the restore reports and skips it, continues, and exits with 3. If a
/// restore to PostgreSQL was interrupted, run it again with --resume.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep restore latest --to postgres://postgres@db2.example.org/sync --key-file admin.key
    sidekeep restore latest --to postgres:///sync --no-owner --no-globals --first users,contacts
    sidekeep restore latest --to restored.sqlite --key-file admin.key
    sidekeep restore --at \"yesterday 03:00\" --to rows --format csv --tables contacts,calendars")]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    snapshot: SnapshotArgs,
    /// Target: an empty PostgreSQL database (postgres://role@host/database), a new SQLite file (name.sqlite or
    /// sqlite:PATH), or with --format a new directory
    #[arg(long, value_name = "TARGET", value_parser = NonEmptyStringValueParser::new())]
    to: String,
    /// Write one file per table to a directory, in this format
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Restore only these tables, separated by commas
    #[arg(long, value_name = "TABLE", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    tables: Vec<String>,
    /// PostgreSQL: resume an interrupted restore of the same snapshot
    #[arg(long)]
    resume: bool,
    /// PostgreSQL: skip ownership and grants to roles that do not exist; the restoring role owns everything
    #[arg(long)]
    no_owner: bool,
    /// PostgreSQL: skip roles, memberships and tablespaces, as managed services require
    #[arg(long)]
    no_globals: bool,
    /// PostgreSQL: restore these tables first, with their keys and indexes, so that they can be used before the rest
    #[arg(long, value_name = "TABLE", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    first: Vec<String>,
    /// PostgreSQL: number of parallel sessions [default: one per processor, at most 8]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    workers: Option<u64>,
    /// Directory for encrypted temporary files [default: spill_dir in the configuration, else the system's temporary
    /// directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

impl RestoreArgs {
    fn target_options(&self) -> TargetOptions {
        TargetOptions {
            owners: if self.no_owner { Owners::LeaveOut } else { Owners::Restore },
            globals: if self.no_globals { Globals::LeaveOut } else { Globals::Restore },
            resume: if self.resume { Resume::Continue } else { Resume::Refuse },
            workers: self.workers(),
            first: self.first.clone(),
        }
    }

    fn workers(&self) -> usize {
        match self.workers.map(usize::try_from) {
            Some(Ok(workers)) => workers,
            _ => TargetOptions::default().workers,
        }
    }

    /// Refuses options that only a PostgreSQL target supports.
    fn check(&self, target: &RestoreTarget) -> Result<(), CliError> {
        if self.is_for_postgres() && !is_postgres(target) {
            return Err(CliError::usage(
                format!("{target} is not a PostgreSQL database"),
                "leave out --resume, --no-owner, --no-globals, --first and --workers",
            ));
        }
        Ok(())
    }

    /// Whether an option was given that only a PostgreSQL target supports.
    fn is_for_postgres(&self) -> bool {
        let has_flag = self.resume || self.no_owner || self.no_globals;
        has_flag || !self.first.is_empty() || self.workers.is_some()
    }
}

fn is_postgres(target: &RestoreTarget) -> bool {
    matches!(target, RestoreTarget::Postgres(_))
}

#[derive(Serialize)]
struct RestoreDocument {
    target: String,
    #[serde(flatten)]
    report: RestoreReport,
}

/// Restores a snapshot.
/// Fails if an option needs a PostgreSQL target and the target is another, the target cannot be created, the repository
/// cannot be unlocked, the source is not found, or the restore fails.
pub(crate) fn run(args: &RestoreArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let snapshot = args.snapshot.selector(context)?;
    let target = RestoreTarget::parse(&args.to, args.format, context.host_environment())?;
    args.check(&target)?;
    let spill_dir = context.spill_dir(args.spill_dir.as_deref())?;
    let unlocked = context.unlocked()?;
    let source = args.snapshot.source.find(&unlocked, context)?;
    let tables = args.tables.clone();
    let planned = PlannedRestore { target, target_options: args.target_options(), source, snapshot, tables, spill_dir };
    let document = planned.run(&unlocked, context)?;
    context.ui.result("restore", &document, human)?;
    Ok(outcome(&document.report.findings))
}

/// A restore that has not started yet.
struct PlannedRestore {
    target: RestoreTarget,
    target_options: TargetOptions,
    source: SourceId,
    snapshot: Selector,
    tables: Vec<String>,
    spill_dir: PathBuf,
}

impl PlannedRestore {
    fn run(self, unlocked: &Unlocked, context: &CommandContext) -> Result<RestoreDocument, CliError> {
        let can_resume = is_postgres(&self.target);
        let restored = context.monitor(|monitor| self.restore(unlocked, context, monitor));
        restored.map_err(|error| if can_resume { error.resumable() } else { error.removed() })
    }

    fn restore(
        self,
        unlocked: &Unlocked,
        context: &CommandContext,
        monitor: Monitor,
    ) -> Result<RestoreDocument, CliError> {
        let mut target = self.target.create(context, self.target_options, monitor.cancel.clone())?;
        let options = RestoreOptions {
            source: self.source,
            snapshot: self.snapshot,
            tables: self.tables,
            spill_dir: self.spill_dir,
            progress: monitor.progress,
            cancel: monitor.cancel,
        };
        let mut report = restore::run(unlocked, target.as_target(), &options)?;
        report.findings.extend(target.notes().iter().map(|note| Finding::note("the target", note)));
        Ok(RestoreDocument { target: self.target.to_string(), report })
    }
}

fn human(document: &RestoreDocument) -> String {
    let report = &document.report;
    headline(report) + &rows_line(document) + &human_findings(&report.findings)
}

fn headline(report: &RestoreReport) -> String {
    let line = format!("restored {}  as of {}\n", short(&report.snapshot), moment(report.source_clock));
    line + &named_now_line(report)
}

/// A note if the command resumed a restore of another snapshot than it names now.
fn named_now_line(report: &RestoreReport) -> String {
    let Some(named) = &report.named_now else {
        return String::new();
    };
    let snapshot = short(&named.snapshot);
    let clock = moment(named.source_clock);
    format!("note: this resumed an earlier restore; a new restore would use {snapshot}  as of {clock}\n")
}

fn rows_line(document: &RestoreDocument) -> String {
    let rows = plural(document.report.rows, "row");
    let tables = plural(document.report.tables.len() as u64, "table");
    format!("{rows} in {tables} to {}\n", printable(&document.target))
}
