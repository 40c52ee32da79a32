//! `sidekeep owners`

use std::path::PathBuf;

use clap::Args;
use clap::builder::PathBufValueParser;

use super::backup::{self, BackupSettings};
use crate::base::finding::FindingKind;
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, magnitude, printable, short};
use crate::cli::source::{SourceOptions, choose};
use crate::engine::postgres::backup::read_options::ReadOptions;
use crate::ops::backup::BackupMode;
use crate::ops::owners::{self, OwnersOptions, OwnersReport, PlacementKind, PlacementState, TablePlacement};
use crate::ops::placement::update::Pinned;

/// Show how the rows of each table are placed under the users, and why
///
/// Placement decides what a night costs and how fast one user is found; it never decides what is restored. It is
/// pinned by the first snapshot. If the schema has changed so that it would be another today, that is drift, and ends
/// with 3 until it is accepted. Needs the operator's key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep owners
    sidekeep owners main --accept")]
pub(crate) struct OwnersArgs {
    /// The database: postgres://role@host/database, service=name, sqlite:///path, or a name from the configuration;
    /// default: the only one there
    source: Option<String>,
    /// Take a snapshot now with everything placed as it would be today; stores again what moves
    #[arg(long)]
    accept: bool,
    /// Where rows are laid aside, encrypted, while they are sorted; default: the system's directory for temporary files
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &OwnersArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    if args.accept {
        let plan = BackupSettings::plain(BackupMode::Commit, Pinned::Renew);
        return backup::take(args.source.as_deref(), args.spill_dir.as_deref(), plan, context);
    }
    let source = choose(context.config()?, args.source.as_deref(), context.host_environment())?;
    let spill_dir = context.spill_dir(args.spill_dir.as_deref())?;
    let unlocked = context.unlocked()?;
    let options = OwnersOptions { source: backup::known_or_none(&unlocked, &source)?, placement: source.placement() };
    let report = context.watch(|watch| {
        let opening = SourceOptions { spill_dir: &spill_dir, read: ReadOptions::default(), cancel: watch.cancel };
        let mut live = source.open(context, opening)?;
        Ok::<_, CliError>(owners::run(&unlocked, live.as_mut(), &options)?)
    })?;
    context.ui.result("owners", &report, human)?;
    Ok(outcome(&report.findings))
}

fn human(report: &OwnersReport) -> String {
    let owners = report.owner_table.as_deref().unwrap_or("no table");
    let mut text = format!("users are the rows of {}: {}\n", printable(owners), printable(&report.owner_reason));
    text += &match &report.pinned_by {
        Some(id) => format!("pinned; newest snapshot {}\n\n", short(id)),
        None => "not pinned yet: the first backup will\n\n".to_owned(),
    };
    let mut table = TextTable::new(&[
        ("table", Align::Left),
        ("rows", Align::Right),
        ("placed", Align::Left),
        ("state", Align::Left),
        ("by", Align::Left),
    ]);
    for line in &report.tables {
        table.row([
            line.table.clone(),
            line.rows_estimate.map(magnitude).unwrap_or_default(),
            kind(line.kind).to_owned(),
            state(&line.state),
            by(line),
        ]);
    }
    text += &table.render();
    text += &human_findings(&report.findings);
    if report.findings.iter().any(|finding| finding.kind == FindingKind::PlacementDrift) {
        text += "`sidekeep owners --accept` places everything as it would be today\n";
    }
    text
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
