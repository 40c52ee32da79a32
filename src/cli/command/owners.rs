//! `sidekeep owners`

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PathBufValueParser;

use super::backup::{self, BackupSettings};
use crate::base::finding::FindingKind;
use crate::cli::context::{CommandContext, Monitor};
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, magnitude, printable, short};
use crate::cli::source::{ConfiguredSource, SourceOptions, choose};
use crate::engine::contract::Source;
use crate::engine::postgres::backup::read_options::ReadOptions;
use crate::ops::backup::BackupMode;
use crate::ops::owners::{self, OwnersOptions, OwnersReport, PlacementKind, PlacementState, TablePlacement};
use crate::ops::placement::update::Pinned;

/// Show how the rows of each table are placed by user, and why
///
/// A table is placed by user, as shared (several foreign keys lead to users), as global (no foreign key does), or as a
/// feed (in the order of its key). Placement affects what a backup costs and how fast one user is found. It never
/// affects what is restored.
///
/// The first snapshot pins the placement. If the schema has changed and a table would be placed differently today, that
/// is drift: the command exits with 3 until you accept the new placement. It also exits with 3 while it has a question
/// that only you can decide: answer it with owner_table or layout in sidekeep.toml. Needs the operator's key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep owners
    sidekeep owners main --accept")]
pub(crate) struct OwnersArgs {
    /// Database: postgres://role@host/database, service=name, sqlite:///path, or the name of a source in the
    /// configuration [default: the only source there]
    source: Option<String>,
    /// Take a snapshot now with today's placement; rows that move are stored again
    #[arg(long)]
    accept: bool,
    /// Directory for encrypted temporary files [default: spill_dir in the configuration, else the system's temporary
    /// directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

/// Shows the placement of rows, or accepts today's.
/// Fails if the source cannot be chosen, opened or described, the repository cannot be unlocked, or the backup that
/// accepts the placement fails.
pub(crate) fn run(args: &OwnersArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    if args.accept { args.accept(context) } else { args.show(context) }
}

impl OwnersArgs {
    /// Whether it takes a snapshot.
    pub(crate) fn writes(&self) -> bool {
        self.accept
    }

    /// Takes a snapshot with today's placement.
    fn accept(&self, context: &CommandContext) -> Result<Outcome, CliError> {
        let settings = BackupSettings::plain(BackupMode::Commit, Pinned::Renew);
        backup::take(self.source.as_deref(), self.spill_dir.as_deref(), settings, context)
    }

    fn show(&self, context: &CommandContext) -> Result<Outcome, CliError> {
        let source = choose(context.config()?, self.source.as_deref(), context.host_environment())?;
        let spill_dir = context.spill_dir(self.spill_dir.as_deref())?;
        let unlocked = context.unlocked()?;
        let known = backup::known_or_unused(&unlocked, &source)?;
        let options = OwnersOptions { source: known, placement: source.placement() };
        let report = context.monitor(|monitor| {
            let mut live = open(&source, &spill_dir, context, monitor)?;
            Ok::<_, CliError>(owners::run(&unlocked, live.as_mut(), &options)?)
        })?;
        context.ui.result("owners", &report, human)?;
        Ok(outcome(&report.findings))
    }
}

fn open(
    source: &ConfiguredSource<'_>,
    spill_dir: &Path,
    context: &CommandContext,
    monitor: Monitor,
) -> Result<Box<dyn Source>, CliError> {
    let options = SourceOptions { spill_dir, read: ReadOptions::default(), cancel: monitor.cancel };
    source.open(context, options)
}

fn human(report: &OwnersReport) -> String {
    let placed = owner_line(report) + &pinned_line(report) + &tables(report);
    placed + &human_findings(&report.findings) + accept_line(report)
}

fn accept_line(report: &OwnersReport) -> &'static str {
    let has_drift = report.findings.iter().any(|finding| finding.kind == FindingKind::PlacementDrift);
    if has_drift { "`sidekeep owners --accept` takes a snapshot with today's placement\n" } else { "" }
}

fn owner_line(report: &OwnersReport) -> String {
    let owners = report.owner_table.as_deref().unwrap_or("no table");
    format!("users are the rows of {}: {}\n", printable(owners), printable(&report.owner_reason))
}

fn pinned_line(report: &OwnersReport) -> String {
    match &report.pinned_by {
        Some(id) => format!("placement is pinned; the newest snapshot is {}\n\n", short(id)),
        None => "placement is not pinned yet; the first backup pins it\n\n".to_owned(),
    }
}

const COLUMNS: [(&str, Align); 5] = [
    ("table", Align::Left),
    ("rows", Align::Right),
    ("placed", Align::Left),
    ("state", Align::Left),
    ("why", Align::Left),
];

fn tables(report: &OwnersReport) -> String {
    let mut table = TextTable::new(&COLUMNS);
    for line in &report.tables {
        let rows = line.rows_estimate.map(magnitude).unwrap_or_default();
        table.row([line.table.clone(), rows, kind(line.kind).to_owned(), state(&line.state), by(line)]);
    }
    table.render()
}

fn by(line: &TablePlacement) -> String {
    if line.paths.is_empty() { line.reason.clone() } else { line.paths.join("; ") }
}

fn kind(kind: PlacementKind) -> &'static str {
    match kind {
        PlacementKind::Owner => "user",
        PlacementKind::Owned => "by user",
        PlacementKind::Shared => "shared",
        PlacementKind::Global => "global",
        PlacementKind::Feed => "feed",
    }
}

fn state(state: &PlacementState) -> String {
    match state {
        PlacementState::Pinned => "pinned".to_owned(),
        PlacementState::New => "new".to_owned(),
        PlacementState::Drifted { kind_today, .. } => format!("DRIFT ({} today)", kind(*kind_today)),
    }
}
