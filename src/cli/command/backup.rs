//! `sidekeep backup`

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, RangedU64ValueParser};

use crate::base::env::random;
use crate::base::finding::{Finding, FindingKind};
use crate::base::id::SourceId;
use crate::cli::address::SourceAddress;
use crate::cli::context::{CommandContext, Monitor};
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{bytes, count, duration, labelled_object, moment, plural, short};
use crate::cli::source::{ConfiguredSource, SourceOptions, choose};
use crate::cli::{amount, tag};
use crate::engine::contract::Source;
use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions, ReadRate};
use crate::ops::backup::{self, BackupMode, BackupOptions, BackupReport, BackupSubject, TableReport};
use crate::ops::placement::update::Pinned;
use crate::repo::create::unknown_sources;
use crate::repo::error::RepoError;
use crate::repo::open::Unlocked;

/// Minimum time that the image of the database was open for the report to show it.
const HELD_SHOWN_MS: u64 = 2000;

/// Take a snapshot of a database
///
/// Reads one consistent image of the database, uploads what the store does not have yet, and commits. An interrupted
/// run leaves no snapshot, and the next run reuses what it uploaded.
///
/// Needs the operator's key, which cannot open rows. Exits with 3 if the snapshot was taken but something could not be
/// captured, or rows would be placed differently today.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep backup
    sidekeep backup main --tag before-migration
    sidekeep backup postgres://sidekeep@db.example.org/sync --gentle --max-read-rate 50MB
    sidekeep backup sqlite:///srv/sync/sync.db --repo s3://sync-backups/main --key-file operator.key")]
pub(crate) struct BackupArgs {
    /// Database to back up: postgres://role@host/database, service=name, sqlite:///path, or the name of a source in the
    /// configuration [default: the only source there]
    source: Option<String>,
    /// Tag the snapshot with this word; can be repeated
    #[arg(long = "tag", value_name = "TAG", value_parser = tag::parse)]
    tags: Vec<String>,
    /// Read everything and report what would be stored, but store nothing
    #[arg(long)]
    dry_run: bool,
    /// Number of threads that compress and encrypt, and of sessions that read PostgreSQL [default: one per processor]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    workers: Option<u64>,
    /// PostgreSQL: reduce the load by reading in one session, and each table in one scan
    #[arg(long)]
    gentle: bool,
    /// PostgreSQL: read at most this much per second, such as 50MB
    #[arg(long, value_name = "BYTES", value_parser = amount::rate)]
    max_read_rate: Option<NonZeroU64>,
    /// Directory for encrypted temporary files [default: spill_dir in the configuration, else the system's temporary
    /// directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

/// Settings of a backup.
pub(super) struct BackupSettings {
    pub(super) mode: BackupMode,
    pub(super) pinned: Pinned,
    pub(super) tags: Vec<String>,
    pub(super) workers: Option<u64>,
    pub(super) gentle: Gentle,
    pub(super) max_rate: ReadRate,
}

impl BackupSettings {
    /// A backup without tags and without limits on its load.
    pub(super) fn plain(mode: BackupMode, pinned: Pinned) -> Self {
        let gentle = Gentle::No;
        let max_rate = ReadRate::Unlimited;
        Self { mode, pinned, tags: Vec::new(), workers: None, gentle, max_rate }
    }

    fn read_options(&self) -> ReadOptions {
        let sessions = NonZeroUsize::new(workers(self.workers)).unwrap_or(NonZeroUsize::MIN);
        ReadOptions { sessions, gentle: self.gentle, max_rate: self.max_rate }
    }

    /// Refuses limits on the load if the source is a file.
    fn check(&self, source: &ConfiguredSource<'_>) -> Result<(), CliError> {
        let is_file = matches!(source.address, SourceAddress::Sqlite(_));
        if is_file && self.limits_load() {
            return Err(CliError::usage(
                format!("--gentle and --max-read-rate need a PostgreSQL server, and {} is a file", source.address),
                "leave out --gentle and --max-read-rate",
            ));
        }
        Ok(())
    }

    fn limits_load(&self) -> bool {
        self.gentle == Gentle::Yes || self.max_rate != ReadRate::Unlimited
    }
}

impl BackupArgs {
    fn settings(&self) -> BackupSettings {
        BackupSettings {
            mode: if self.dry_run { BackupMode::DryRun } else { BackupMode::Commit },
            pinned: Pinned::Keep,
            tags: self.tags.clone(),
            workers: self.workers,
            gentle: if self.gentle { Gentle::Yes } else { Gentle::No },
            max_rate: self.max_read_rate.map_or(ReadRate::Unlimited, ReadRate::BytesPerSecond),
        }
    }
}

/// Takes a snapshot.
/// Fails as [`take`] does.
pub(crate) fn run(args: &BackupArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    take(args.source.as_deref(), args.spill_dir.as_deref(), args.settings(), context)
}

/// Takes a snapshot of the named source, and reports it.
/// Fails if the source cannot be chosen or opened, an option needs a PostgreSQL server and the source is a file, the
/// repository cannot be unlocked, or the backup fails.
pub(super) fn take(
    source: Option<&str>,
    spill_dir: Option<&Path>,
    settings: BackupSettings,
    context: &CommandContext,
) -> Result<Outcome, CliError> {
    let source = choose(context.config()?, source, context.host_environment())?;
    settings.check(&source)?;
    let spill_dir = context.spill_dir(spill_dir)?;
    let mut unlocked = context.unlocked()?;
    let planned = PlannedBackup { source, spill_dir, settings };
    let report = context.monitor(|monitor| planned.take(&mut unlocked, context, monitor))?;
    context.ui.result("backup", &report, human)?;
    Ok(outcome(&report.findings))
}

/// A backup that has not started yet.
struct PlannedBackup<'a> {
    source: ConfiguredSource<'a>,
    spill_dir: PathBuf,
    settings: BackupSettings,
}

impl PlannedBackup<'_> {
    fn take(
        self,
        unlocked: &mut Unlocked,
        context: &CommandContext,
        monitor: Monitor,
    ) -> Result<BackupReport, CliError> {
        let mut live = self.open(context, &monitor)?;
        let subject = self.subject(unlocked)?;
        let unknown_sources = unknown_sources_if_new(&subject, unlocked)?;
        let options = self.options(subject, monitor);
        let mut report = backup::run(unlocked, live.as_mut(), &options)?;
        report.findings.extend(unknown_sources.into_iter().map(unknown_source));
        Ok(report)
    }

    fn open(&self, context: &CommandContext, monitor: &Monitor) -> Result<Box<dyn Source>, CliError> {
        let read = self.settings.read_options();
        let options = SourceOptions { spill_dir: &self.spill_dir, read, cancel: monitor.cancel.clone() };
        self.source.open(context, options)
    }

    /// The source in the repository, or a new one. A dry run does not add a source.
    fn subject(&self, unlocked: &Unlocked) -> Result<BackupSubject, CliError> {
        if self.settings.mode == BackupMode::DryRun {
            return Ok(BackupSubject::Known(known_or_unused(unlocked, &self.source)?));
        }
        match known(unlocked, &self.source)? {
            Some(id) => Ok(BackupSubject::Known(id)),
            None => Ok(BackupSubject::New(self.source.label())),
        }
    }

    fn options(self, subject: BackupSubject, monitor: Monitor) -> BackupOptions {
        BackupOptions {
            source: subject,
            address: Some(self.source.plain_address()),
            placement: self.source.placement(),
            tags: self.settings.tags,
            workers: workers(self.settings.workers),
            spill_dir: self.spill_dir,
            pinned: self.settings.pinned,
            mode: self.settings.mode,
            progress: monitor.progress,
            cancel: monitor.cancel,
        }
    }
}

/// Sources in the store that are not in the roster. Looked for only if `subject` is new: it may be one of them, whose
/// roster entry was lost.
fn unknown_sources_if_new(subject: &BackupSubject, unlocked: &Unlocked) -> Result<Vec<SourceId>, CliError> {
    match subject {
        BackupSubject::New(_) => Ok(unknown_sources(unlocked.repository())?),
        BackupSubject::Known(_) => Ok(Vec::new()),
    }
}

/// The finding for a source that has objects in the store but is not in the roster.
fn unknown_source(source: SourceId) -> Finding {
    let detail = "this source is new here, but the store already has objects of a source that is not in the roster";
    let remedy = "if a roster entry was lost, put it back from a second copy of the store before the next backup";
    Finding::new(FindingKind::UnknownSource, format!("{source}/"), detail).of_source(source).with_remedy(remedy)
}

/// The wanted number of workers, or one per processor.
fn workers(wanted: Option<u64>) -> usize {
    match wanted.map(usize::try_from) {
        Some(Ok(wanted)) => wanted,
        _ => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

/// The id of the source in the repository, if it is there.
fn known(unlocked: &Unlocked, source: &ConfiguredSource<'_>) -> Result<Option<SourceId>, CliError> {
    match unlocked.find_source(Some(&source.wanted())) {
        Ok(id) => Ok(Some(id)),
        // A source with another id would not be the one that is wanted.
        Err(RepoError::NoSource { .. }) if source.pinned().is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The id of the source in the repository, or an unused id.
/// Fails if a roster entry that may have added the source is lost.
pub(super) fn known_or_unused(unlocked: &Unlocked, source: &ConfiguredSource<'_>) -> Result<SourceId, CliError> {
    let unused = || SourceId::new(random(unlocked.repository().env()));
    Ok(known(unlocked, source)?.unwrap_or_else(unused))
}

fn human(report: &BackupReport) -> String {
    let mut text = headline(report) + &rows_line(report) + &stored_line(report) + &held_line(report);
    for table in &report.tables {
        text += &odd_rows_line(table);
    }
    text + &human_findings(&report.findings)
}

fn headline(report: &BackupReport) -> String {
    let clock = moment(report.source_clock);
    match &report.snapshot {
        Some(id) => format!("snapshot {}  as of {clock}\n", short(id)),
        None => format!("dry run, nothing was stored  as of {clock}\n"),
    }
}

fn rows_line(report: &BackupReport) -> String {
    let rows = plural(report.rows, "row");
    let tables = plural(report.tables.len() as u64, "table");
    format!("{rows} in {tables}, {}\n", bytes(report.content_bytes))
}

fn stored_line(report: &BackupReport) -> String {
    let stored = if report.snapshot.is_some() { "stored" } else { "to store" };
    let packs = plural(report.packs as u64, "pack");
    format!("{} {stored} in {packs}; {}\n", bytes(report.new_bytes), new_leaves(report))
}

fn new_leaves(report: &BackupReport) -> String {
    let new: u64 = report.tables.iter().map(|table| table.leaves_new).sum();
    let all: u64 = report.tables.iter().map(|table| table.leaves).sum();
    format!("{} of {} leaves new", count(new), count(all))
}

fn held_line(report: &BackupReport) -> String {
    if report.image_held_ms < HELD_SHOWN_MS {
        return String::new();
    }
    let held = Duration::from_millis(report.image_held_ms);
    format!("the image of the database was open for {}\n", duration(held))
}

/// A note about unusual rows of a table that are not an error. Empty if there is nothing to note.
fn odd_rows_line(table: &TableReport) -> String {
    let odd = [orphans(table), duplicates(table)];
    let words: Vec<String> = odd.into_iter().flatten().collect();
    if words.is_empty() {
        return String::new();
    }
    labelled_object("note", &table.name, &words.join(", "))
}

fn orphans(table: &TableReport) -> Option<String> {
    let rows = plural(table.orphans, "row");
    (table.orphans > 0).then(|| format!("{rows} with an owner that does not exist"))
}

fn duplicates(table: &TableReport) -> Option<String> {
    let rows = plural(table.duplicates, "row");
    (table.duplicates > 0).then(|| format!("{rows} with a duplicate key"))
}
