//! `sidekeep diff`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PathBufValueParser};

use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::findings::human_findings;
use crate::cli::render::{Align, TextTable, count, moment, plural, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::diff::{self, CellSample, Changes, DiffOptions, DiffReport, RowChange, RowSample};
use crate::ops::diff::{TableDiff, TablePresence};
use crate::ops::select::Selector;

/// Rows that are shown of each table and kind of change when a table or user is named.
const ROWS_SHOWN: usize = 10;

/// Show which rows were added, changed and removed between two snapshots, by table and by user
///
/// Reads only what differs. Needs the admin's or the recovery key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep diff latest~1 latest --key-file admin.key
    sidekeep diff before-migration latest --table contacts --rows 50
    sidekeep diff latest~7 latest --user 4711")]
pub(crate) struct DiffArgs {
    /// The older snapshot: its id or the beginning of it, latest~2, or a tag
    #[arg(value_name = "A", value_parser = NonEmptyStringValueParser::new())]
    old: String,
    /// The newer one
    #[arg(value_name = "B", value_parser = NonEmptyStringValueParser::new())]
    new: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Only this table
    #[arg(long, value_name = "TABLE", value_parser = NonEmptyStringValueParser::new())]
    table: Option<String>,
    /// Only rows of this user, named by the key of its row
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Show this many rows of each table and kind of change; default: 10 with --table or --user, else none
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Name this many users, those with the most changes
    #[arg(long, value_name = "N", default_value_t = 20)]
    users: usize,
    /// Where rows are laid aside, encrypted; default: the system's directory for temporary files
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    spill_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &DiffArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let is_narrow = args.table.is_some() || args.user.is_some();
    let spill_dir = context.spill_dir(args.spill_dir.as_deref())?;
    let unlocked = context.unlocked()?;
    let source = args.source.find(&unlocked)?;
    let report = context.watch(|watch| {
        let options = DiffOptions {
            source,
            old: Selector::parse(&args.old),
            new: Selector::parse(&args.new),
            table: args.table.clone(),
            user: args.user.clone(),
            samples_max: args.rows.unwrap_or(if is_narrow { ROWS_SHOWN } else { 0 }),
            users_max: args.users,
            spill_dir,
            progress: watch.progress,
            cancel: watch.cancel,
        };
        diff::run(&unlocked, &options)
    })?;
    context.ui.result("diff", &report, human)?;
    Ok(Outcome::Done)
}

fn human(report: &DiffReport) -> String {
    let mut text = String::new();
    for (sign, side) in [('-', &report.old), ('+', &report.new)] {
        text += &format!("{sign} {}  as of {}\n", short(&side.snapshot), moment(side.source_clock));
    }
    text += &human_findings(&report.findings);
    if report.is_empty() {
        return text + "no difference\n";
    }
    text += "\n";
    text += &changes("table", report.tables.iter().map(|table| (table_name(table), &table.rows)));
    if !report.users.is_empty() {
        text += "\n";
        text += &changes("user", report.users.iter().map(|user| (user.user.clone(), &user.rows)));
        let more = report.users_differing.saturating_sub(report.users.len() as u64);
        if more > 0 {
            text += &format!("and {}; --users shows more\n", plural(more, "other user"));
        }
    }
    for table in report.tables.iter().filter(|table| !table.samples.is_empty()) {
        text += &format!("\n{}\n", printable(&table.name));
        table.samples.iter().for_each(|row| text += &sample(row));
    }
    text
}

fn table_name(table: &TableDiff) -> String {
    let mut remarks = Vec::new();
    match table.presence {
        TablePresence::Both => {}
        TablePresence::Added => remarks.push("new".to_owned()),
        TablePresence::Removed => remarks.push("gone".to_owned()),
    }
    remarks.extend(table.renamed_from.iter().map(|name| format!("was {name}")));
    remarks.extend(table.columns_added.iter().map(|column| format!("+{column}")));
    remarks.extend(table.columns_removed.iter().map(|column| format!("-{column}")));
    if remarks.is_empty() { table.name.clone() } else { format!("{} ({})", table.name, remarks.join(", ")) }
}

fn changes<'a>(what: &'static str, lines: impl Iterator<Item = (String, &'a Changes)>) -> String {
    let mut table = TextTable::new(&[
        (what, Align::Left),
        ("added", Align::Right),
        ("changed", Align::Right),
        ("removed", Align::Right),
        ("moved", Align::Right),
    ]);
    let some = |n: u64| if n == 0 { String::new() } else { count(n) };
    for (name, rows) in lines {
        table.row([name, some(rows.added), some(rows.changed), some(rows.removed), some(rows.moved)]);
    }
    table.render()
}

/// `~ 17 of 4711: name "Alan" -> "Allan"`
fn sample(row: &RowSample) -> String {
    let sign = match row.change {
        RowChange::Added => '+',
        RowChange::Changed => '~',
        RowChange::Removed => '-',
        RowChange::Moved => '>',
    };
    let owner = match (&row.owner_before, &row.owner) {
        (Some(before), Some(owner)) => format!(" of {owner}, before of {before}"),
        (None, Some(owner)) => format!(" of {owner}"),
        (_, None) => String::new(),
    };
    let cells: Vec<String> = row.cells.iter().map(cell).collect();
    let line = format!("{sign} {}{owner}: {}", row.key, cells.join(", "));
    format!("  {}\n", printable(&line))
}

fn cell(cell: &CellSample) -> String {
    match (&cell.old, &cell.new) {
        (Some(old), Some(new)) => format!("{} {old} -> {new}", cell.column),
        (Some(one), None) | (None, Some(one)) => format!("{} {one}", cell.column),
        (None, None) => cell.column.clone(),
    }
}
