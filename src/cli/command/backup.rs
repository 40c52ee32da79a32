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

/// That a snapshot of the live database was held open for less is not shown.
const HELD_SHOWN_MS: u64 = 2000;

/// Take a snapshot of a database
///
/// Reads one consistent image, uploads what the store does not have, and commits. A run that is interrupted leaves
/// no snapshot, and the next one reuses what it uploaded.
///
/// Ends with 3 if the snapshot was taken but something could not be captured or rows would be placed differently
/// today. Needs the operator's key, which opens no row.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep backup
    sidekeep backup main --tag before-migration
    sidekeep backup postgres://sidekeep@db.example.org/sync --gentle --max-read-rate 50MB
    sidekeep backup sqlite:///srv/sync/sync.db --repo s3://sync-backups/main --key-file operator.key")]
pub(crate) struct BackupArgs {
    /// The database: postgres://role@host/database, service=name, sqlite:///path, or a name from the configuration;
    /// default: the only one there
    source: Option<String>,
    /// A word to find the snapshot by; may be given several times
    #[arg(long = "tag", value_name = "TAG", value_parser = tag::parse)]
    tags: Vec<String>,
    /// Read everything and say what would be stored, but store nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads that compress and encrypt, and sessions that read a PostgreSQL server; default: one per processor
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    workers: Option<u64>,
    /// Read a PostgreSQL server in one session and every table in one go, so that its own work comes first
    #[arg(long)]
    gentle: bool,
    /// Read at most this much of a PostgreSQL server in a second, as in 50MB
    #[arg(long, value_name = "BYTES", value_parser = amount::rate)]
    max_read_rate: Option<NonZeroU64>,
    /// Where rows are laid aside, encrypted, while they are sorted; default: the system's directory for temporary files
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

/// How a snapshot is taken.
pub(super) struct BackupSettings {
    pub(super) mode: BackupMode,
    pub(super) pinned: Pinned,
    pub(super) tags: Vec<String>,
    pub(super) workers: Option<u64>,
    pub(super) gentle: Gentle,
    pub(super) max_rate: ReadRate,
}

impl BackupSettings {
    /// Nothing but a snapshot, read as fast as it goes.
    pub(super) fn plain(mode: BackupMode, pinned: Pinned) -> Self {
        let gentle = Gentle::No;
        let max_rate = ReadRate::Unlimited;
        Self { mode, pinned, tags: Vec::new(), workers: None, gentle, max_rate }
    }

    fn read_options(&self) -> ReadOptions {
        let sessions = NonZeroUsize::new(workers(self.workers)).unwrap_or(NonZeroUsize::MIN);
        ReadOptions { sessions, gentle: self.gentle, max_rate: self.max_rate }
    }

    /// A file is read as fast as it goes.
    fn check(&self, source: &ConfiguredSource<'_>) -> Result<(), CliError> {
        let is_file = matches!(source.address, SourceAddress::Sqlite(_));
        if is_file && self.spares_server() {
            return Err(CliError::usage(
                format!("{} is no server that could be spared", source.address),
                "leave --gentle and --max-read-rate out",
            ));
        }
        Ok(())
    }

    fn spares_server(&self) -> bool {
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

pub(crate) fn run(args: &BackupArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    take(args.source.as_deref(), args.spill_dir.as_deref(), args.settings(), context)
}

/// Takes a snapshot of the source that is named, and reports it.
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

/// A backup before it begins.
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
        let unknown_sources = unknown_sources_beside(&subject, unlocked)?;
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

    /// The source as the repository knows it. A dry run adds none.
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

/// Sources in the store that the roster does not know, if `subject` is new: it may be one of them, whose entry is lost.
fn unknown_sources_beside(subject: &BackupSubject, unlocked: &Unlocked) -> Result<Vec<SourceId>, CliError> {
    match subject {
        BackupSubject::New(_) => Ok(unknown_sources(unlocked.repository())?),
        BackupSubject::Known(_) => Ok(Vec::new()),
    }
}

/// Objects of a source that the roster does not name, beside a source that is new.
fn unknown_source(source: SourceId) -> Finding {
    let detail = "this source is new here, and the store has objects of another that no entry of the roster adds";
    let remedy = "if the roster lost an entry, put it back from a second copy of the store before the next backup";
    Finding::new(FindingKind::UnknownSource, format!("{source}/"), detail).of_source(source).with_remedy(remedy)
}

/// As many workers as are wanted, or one for each processor.
fn workers(wanted: Option<u64>) -> usize {
    match wanted.map(usize::try_from) {
        Some(Ok(wanted)) => wanted,
        _ => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

/// The source in the repository, if it has it.
fn known(unlocked: &Unlocked, source: &ConfiguredSource<'_>) -> Result<Option<SourceId>, CliError> {
    match unlocked.find_source(Some(&source.label())) {
        Ok(id) => Ok(Some(id)),
        Err(RepoError::NoSource { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The source in the repository, or an id of which it has nothing.
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
    format!("the database's snapshot was open for {}\n", duration(held))
}

/// What is odd about the rows of a table and not wrong, if anything is.
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
    (table.duplicates > 0).then(|| format!("{rows} that share their key with another"))
}
