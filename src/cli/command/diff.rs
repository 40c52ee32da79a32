//! `sidekeep diff`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PathBufValueParser};

use crate::base::id::{Digest, SourceId};
use crate::base::time::Moment;
use crate::cli::context::{CommandContext, Monitor};
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{Align, TextTable, count_or_blank, moment, plural, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::diff::{self, CellSample, Changes, DiffOptions, DiffReport, RowChange, RowSample};
use crate::ops::diff::{TableDiff, TablePresence};
use crate::ops::select::Selector;

/// Default number of rows to show for each table and kind of change, if a table or user is named.
const ROWS_SHOWN: usize = 10;

/// Show which rows were added, changed or removed between two snapshots
///
/// Counts the changes by table and by user. Reads only the parts that differ. Needs an admin or recovery key. Exits
/// with 3 if the repository uses a feature that this version does not know.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep diff latest~1 latest --key-file admin.key
    sidekeep diff before-migration latest --table contacts --rows 50
    sidekeep diff latest~7 latest --user 4711")]
pub(crate) struct DiffArgs {
    /// Older snapshot: an id or the start of one, a tag, latest, or latest~2 (two before the latest)
    #[arg(value_name = "A", value_parser = NonEmptyStringValueParser::new())]
    old: String,
    /// Newer snapshot, named in the same way
    #[arg(value_name = "B", value_parser = NonEmptyStringValueParser::new())]
    new: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Compare only this table
    #[arg(long, value_name = "TABLE", value_parser = NonEmptyStringValueParser::new())]
    table: Option<String>,
    /// Compare only the rows of this user, given by the key of the user's row
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Show up to this many rows for each table and kind of change [default: 10 with --table or --user, else 0]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// List this many users, those with the most changes first
    #[arg(long, value_name = "N", default_value_t = 20)]
    users: usize,
    /// Directory for encrypted temporary files [default: spill_dir in the configuration, else the system's temporary
    /// directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

/// Compares two snapshots.
/// Fails if the repository cannot be unlocked, the source is not found, or the diff fails.
pub(crate) fn run(args: &DiffArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let spill_dir = context.spill_dir(args.spill_dir.as_deref())?;
    let unlocked = context.unlocked()?;
    let source = args.source.find(&unlocked, context)?;
    let report = context.monitor(|monitor| diff::run(&unlocked, &args.options(source, spill_dir, monitor)))?;
    context.ui.result("diff", &report, human)?;
    Ok(outcome(&report.findings))
}

impl DiffArgs {
    fn options(&self, source: SourceId, spill_dir: PathBuf, monitor: Monitor) -> DiffOptions {
        DiffOptions {
            source,
            old: Selector::parse(&self.old),
            new: Selector::parse(&self.new),
            table: self.table.clone(),
            user: self.user.clone(),
            samples_max: self.samples_max(),
            users_max: self.users,
            spill_dir,
            progress: monitor.progress,
            cancel: monitor.cancel,
        }
    }

    fn samples_max(&self) -> usize {
        let is_narrow = self.table.is_some() || self.user.is_some();
        self.rows.unwrap_or(if is_narrow { ROWS_SHOWN } else { 0 })
    }
}

fn human(report: &DiffReport) -> String {
    let mut text = side_line('-', &report.old.snapshot, report.old.source_clock);
    text += &side_line('+', &report.new.snapshot, report.new.source_clock);
    text += &human_findings(&report.findings);
    if report.is_empty() {
        return text + "no difference\n";
    }
    text + &tables(report) + &users(report) + &samples(report)
}

fn side_line(sign: char, snapshot: &Digest, clock: Moment) -> String {
    format!("{sign} {}  as of {}\n", short(snapshot), moment(clock))
}

fn tables(report: &DiffReport) -> String {
    let mut lines = changes_table("table");
    for table in &report.tables {
        lines.row(changes_cells(table_name(table), &table.rows));
    }
    format!("\n{}", lines.render())
}

fn users(report: &DiffReport) -> String {
    if report.users.is_empty() {
        return String::new();
    }
    let mut lines = changes_table("user");
    for user in &report.users {
        lines.row(changes_cells(user.user.clone(), &user.rows));
    }
    format!("\n{}{}", lines.render(), other_users_line(report))
}

fn other_users_line(report: &DiffReport) -> String {
    match report.users_differing.saturating_sub(report.users.len() as u64) {
        0 => String::new(),
        more => format!("and {}; use --users to list more\n", plural(more, "other user")),
    }
}

fn samples(report: &DiffReport) -> String {
    let sampled = report.tables.iter().filter(|table| !table.samples.is_empty());
    sampled.map(table_samples).collect()
}

fn table_samples(table: &TableDiff) -> String {
    let mut text = format!("\n{}\n", printable(&table.name));
    for row in &table.samples {
        text += &sample(row);
    }
    text
}

fn table_name(table: &TableDiff) -> String {
    let remarks = table_remarks(table);
    if remarks.is_empty() {
        return table.name.clone();
    }
    format!("{} ({})", table.name, remarks.join(", "))
}

fn table_remarks(table: &TableDiff) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.extend(presence_remark(table.presence).map(str::to_owned));
    remarks.extend(table.renamed_from.iter().map(|name| format!("was {name}")));
    remarks.extend(table.columns_added.iter().map(|column| format!("+{column}")));
    remarks.extend(table.columns_removed.iter().map(|column| format!("-{column}")));
    remarks
}

fn presence_remark(presence: TablePresence) -> Option<&'static str> {
    match presence {
        TablePresence::Both => None,
        TablePresence::Added => Some("new"),
        TablePresence::Removed => Some("gone"),
    }
}

fn changes_table(subject: &'static str) -> TextTable {
    TextTable::new(&[
        (subject, Align::Left),
        ("added", Align::Right),
        ("changed", Align::Right),
        ("removed", Align::Right),
        ("moved", Align::Right),
    ])
}

fn changes_cells(name: String, rows: &Changes) -> [String; 5] {
    [
        name,
        count_or_blank(rows.added),
        count_or_blank(rows.changed),
        count_or_blank(rows.removed),
        count_or_blank(rows.moved),
    ]
}

/// `~ 17 of 4711: name "Alan" -> "Allan"`
fn sample(row: &RowSample) -> String {
    let cells: Vec<String> = row.cells.iter().map(cell).collect();
    let line = format!("{} {}{}: {}", sign(row.change), row.key, owner(row), cells.join(", "));
    format!("  {}\n", printable(&line))
}

fn sign(change: RowChange) -> char {
    match change {
        RowChange::Added => '+',
        RowChange::Changed => '~',
        RowChange::Removed => '-',
        RowChange::Moved => '>',
    }
}

fn owner(row: &RowSample) -> String {
    match (&row.owner_before, &row.owner) {
        (Some(before), Some(owner)) => format!(" of {owner}, previously of {before}"),
        (None, Some(owner)) => format!(" of {owner}"),
        (_, None) => String::new(),
    }
}

fn cell(cell: &CellSample) -> String {
    match (&cell.old, &cell.new) {
        (Some(old), Some(new)) => format!("{} {old} -> {new}", cell.column),
        (Some(one), None) | (None, Some(one)) => format!("{} {one}", cell.column),
        (None, None) => cell.column.clone(),
    }
}
