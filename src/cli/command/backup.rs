//! `sidekeep backup`

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, RangedU64ValueParser};

use crate::base::env::random;
use crate::base::finding::{Finding, FindingKind};
use crate::base::id::SourceId;
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{bytes, count, duration, moment, plural, printable, short};
use crate::cli::source::{ConfiguredSource, SourceAddress, SourceOptions, choose};
use crate::cli::{amount, tag};
use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions, ReadRate};
use crate::ops::backup::{self, BackupMode, BackupOptions, BackupReport, BackupSubject};
use crate::ops::placement::update::Pinned;
use crate::repo::create::unknown_sources;
use crate::repo::error::RepoError;
use crate::repo::open::Unlocked;

/// A snapshot of the live database that was held for less is nobody's trouble.
const HELD_SAID_MS: u64 = 2000;

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
        let (gentle, max_rate) = (Gentle::No, ReadRate::Unlimited);
        Self { mode, pinned, tags: Vec::new(), workers: None, gentle, max_rate }
    }

    fn read_options(&self) -> ReadOptions {
        let sessions = NonZeroUsize::new(workers(self.workers)).unwrap_or(NonZeroUsize::MIN);
        ReadOptions { sessions, gentle: self.gentle, max_rate: self.max_rate }
    }

    /// A file is read as fast as it goes.
    fn check(&self, source: &ConfiguredSource<'_>) -> Result<(), CliError> {
        let is_file = matches!(source.address, SourceAddress::Sqlite(_));
        if is_file && (self.gentle == Gentle::Yes || self.max_rate != ReadRate::Unlimited) {
            return Err(CliError::Usage {
                message: format!("{} is no server that could be spared", source.address),
                hint: "leave --gentle and --max-read-rate out",
            });
        }
        Ok(())
    }
}

pub(crate) fn run(args: &BackupArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mode = if args.dry_run { BackupMode::DryRun } else { BackupMode::Commit };
    let plan = BackupSettings {
        tags: args.tags.clone(),
        workers: args.workers,
        gentle: if args.gentle { Gentle::Yes } else { Gentle::No },
        max_rate: args.max_read_rate.map_or(ReadRate::Unlimited, ReadRate::BytesPerSecond),
        ..BackupSettings::plain(mode, Pinned::Keep)
    };
    take(args.source.as_deref(), args.spill_dir.as_deref(), plan, context)
}

/// Takes a snapshot of the source that is named, and says so.
pub(super) fn take(
    source: Option<&str>,
    spill_dir: Option<&Path>,
    plan: BackupSettings,
    context: &CommandContext,
) -> Result<Outcome, CliError> {
    let source = choose(context.config()?, source, context.host_environment())?;
    plan.check(&source)?;
    let spill_dir = context.spill_dir(spill_dir)?;
    let mut unlocked = context.unlocked()?;
    let (mut report, lost) = context.watch(|watch| {
        let opening = SourceOptions { spill_dir: &spill_dir, read: plan.read_options(), cancel: watch.cancel.clone() };
        let mut live = source.open(context, opening)?;
        let subject = match (known(&unlocked, &source)?, plan.mode) {
            (None, BackupMode::Commit) => BackupSubject::New(source.label()),
            _ => BackupSubject::Known(known_or_none(&unlocked, &source)?),
        };
        // Whoever starts anew where there was a source before must hear of it.
        let is_new = matches!(subject, BackupSubject::New(_));
        let lost = if is_new { unknown_sources(unlocked.repository())? } else { Vec::new() };
        let options = BackupOptions {
            source: subject,
            tags: plan.tags,
            workers: workers(plan.workers),
            spill_dir: spill_dir.clone(),
            placement: source.placement(),
            pinned: plan.pinned,
            mode: plan.mode,
            progress: watch.progress,
            cancel: watch.cancel,
        };
        let report = backup::run(&mut unlocked, live.as_mut(), &options)?;
        Ok::<_, CliError>((report, lost))
    })?;
    report.findings.extend(lost.into_iter().map(lost_source));
    context.ui.result("backup", &report, human)?;
    Ok(outcome(&report.findings))
}

/// Objects of a source that the roster does not name, where a source is new.
fn lost_source(source: SourceId) -> Finding {
    let detail = "this source is new here, and the store has objects of another that no entry of the roster adds";
    let remedy = "if the roster lost an entry, put it back from a second copy of the store before the next backup";
    Finding::new(FindingKind::UnknownSource, format!("{source}/"), detail).of_source(source).with_remedy(remedy)
}

fn workers(wanted: Option<u64>) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or_else(available)
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
pub(super) fn known_or_none(unlocked: &Unlocked, source: &ConfiguredSource<'_>) -> Result<SourceId, CliError> {
    Ok(known(unlocked, source)?.unwrap_or_else(|| SourceId::new(random(unlocked.repository().env()))))
}

fn human(report: &BackupReport) -> String {
    let clock = moment(report.source_clock);
    let mut text = match &report.snapshot {
        Some(id) => format!("snapshot {}  as of {clock}\n", short(id)),
        None => format!("dry run, nothing was stored  as of {clock}\n"),
    };
    let tables = plural(report.tables.len() as u64, "table");
    text += &format!("{} in {tables}, {}\n", plural(report.rows, "row"), bytes(report.content_bytes));
    let (new, all) =
        report.tables.iter().fold((0, 0), |(new, all), table| (new + table.leaves_new, all + table.leaves));
    let stored = if report.snapshot.is_some() { "stored" } else { "to store" };
    text += &format!(
        "{} {stored} in {}; {} of {} leaves new\n",
        bytes(report.new_bytes),
        plural(report.packs as u64, "pack"),
        count(new),
        count(all),
    );
    if report.image_held_ms >= HELD_SAID_MS {
        let held = Duration::from_millis(report.image_held_ms);
        text += &format!("the database's snapshot was open for {}\n", duration(held));
    }
    for table in report.tables.iter().filter(|table| table.orphans + table.duplicates > 0) {
        let mut odd = Vec::new();
        if table.orphans > 0 {
            odd.push(format!("{} with an owner that does not exist", plural(table.orphans, "row")));
        }
        if table.duplicates > 0 {
            odd.push(format!("{} that share their key with another", plural(table.duplicates, "row")));
        }
        text += &format!("note: {}: {}\n", printable(&table.name), odd.join(", "));
    }
    text + &human_findings(&report.findings)
}
