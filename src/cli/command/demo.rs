//! `sidekeep demo`
//!
//! `ops::demo` runs the story. This module prints it, with the commands that do the same at the start of each chapter.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PathBufValueParser;
use serde::Serialize;

use crate::base::env::SharedEnv;
use crate::cli::config::{FILE_NAME, Template};
use crate::cli::context::{CommandContext, Monitor};
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::progress::Style;
use crate::cli::render::{Align, TextTable, count, printable};
use crate::cli::ui::Ui;
use crate::ops::demo::service::Holdings;
use crate::ops::demo::{self, Chapter, DemoOptions, DemoReport};

/// Play a week of a small sync service, with a disaster and a restore
///
/// Needs no server and does not touch your data. Creates a database of 100 users, backs it up for a week, loses it,
/// restores it, compares every row, and checks every byte in the store. Prints the commands with which you would do the
/// same.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep demo
    sidekeep demo --dir playground")]
pub(crate) struct DemoArgs {
    /// Create this directory, play in it and keep it [default: a temporary directory]
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct DemoDocument<'a> {
    before: &'a Holdings,
    broken: &'a Holdings,
    restored: &'a Holdings,
    story: &'a DemoReport,
}

/// Plays the demo.
/// Fails if the directory exists or cannot be created, or a step of the demo fails.
pub(crate) fn run(args: &DemoArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let temporary = temporary_dir()?;
    let report = play(args.create_dir()?.unwrap_or(temporary.path()), context)?;
    write_config(&report)?;
    context.ui.say(&end(&report, args.dir.as_deref()))?;
    context.ui.result("demo", &DemoDocument::of(&report), |_| String::new())?;
    Ok(Outcome::with_findings(!is_whole(&report)))
}

fn temporary_dir() -> Result<tempfile::TempDir, CliError> {
    tempfile::Builder::new()
        .prefix("sidekeep-demo-")
        .tempdir()
        .map_err(CliError::cannot("create a directory for the demo"))
}

impl DemoArgs {
    /// Creates the directory that the user named, if any.
    fn create_dir(&self) -> Result<Option<&Path>, CliError> {
        if let Some(dir) = &self.dir {
            std::fs::create_dir(dir).map_err(CliError::unusable(format!("create the directory {}", dir.display())))?;
        }
        Ok(self.dir.as_deref())
    }
}

impl<'a> DemoDocument<'a> {
    fn of(story: &'a DemoReport) -> Self {
        Self { before: &story.before, broken: &story.after_disaster, restored: &story.after_restore, story }
    }
}

/// Prints the story while it runs. A redrawn progress line would disturb it.
fn play(dir: &Path, context: &CommandContext) -> Result<DemoReport, CliError> {
    let mut story = PrintedStory { ui: context.ui, chapter: None, printed: Ok(()) };
    let report = context.monitor_as(Style::Notes, |monitor| {
        let options = options(dir, context, monitor);
        demo::run(&options, &mut |chapter, sentence| story.print(chapter, sentence))
    })?;
    story.printed?;
    Ok(report)
}

fn options(dir: &Path, context: &CommandContext, monitor: Monitor) -> DemoOptions {
    DemoOptions {
        dir: dir.to_owned(),
        users: DemoOptions::USERS,
        runs: DemoOptions::RUNS,
        workers: std::thread::available_parallelism().map_or(2, usize::from),
        runtime: context.runtime(),
        env: SharedEnv::clone(&context.env),
        progress: monitor.progress,
        cancel: monitor.cancel,
    }
}

/// Prints the story, with a heading for each chapter.
struct PrintedStory {
    ui: Ui,
    chapter: Option<Chapter>,
    /// After an error, nothing more is printed.
    printed: Result<(), CliError>,
}

impl PrintedStory {
    fn print(&mut self, chapter: Chapter, sentence: &str) {
        let is_new = self.chapter.replace(chapter) != Some(chapter);
        let heading = if is_new { heading(chapter) } else { "" };
        if self.printed.is_ok() {
            self.printed = self.ui.say(&format!("{heading}  {}\n", printable(sentence)));
        }
    }
}

/// The heading of a chapter.
fn heading(chapter: Chapter) -> &'static str {
    match chapter {
        Chapter::Service => "A service starts:\n",
        Chapter::Repository => {
            "
It gets a repository and five keys:
$ sidekeep init store --source sqlite:service.sqlite
"
        }
        Chapter::Runs => {
            "
Users add, change and remove data every day. A backup stores only what changed:
$ sidekeep backup
"
        }
        Chapter::Disaster => {
            "
The disaster. The nightly backup still runs:
$ sidekeep backup
$ sidekeep diff latest~1 latest --key-file keys/admin.key
"
        }
        Chapter::Restore => {
            "
The host that makes the backups cannot read them. The admin's key can, and a restore needs only the key and the store:
$ sidekeep restore latest~1 --to restored.sqlite
$ sidekeep restore latest~1 --to restored.sqlite --key-file keys/admin.key
"
        }
        Chapter::Proof => {
            "
The proof: the restored file is compared with a copy from before the disaster, and the store is checked:
$ sidekeep verify --level read
$ sidekeep verify --level deep --key-file keys/admin.key
"
        }
    }
}

fn is_whole(report: &DemoReport) -> bool {
    report.failures.is_empty() && report.before == report.after_restore
}

/// Writes a configuration, so that the printed commands work in the directory.
fn write_config(report: &DemoReport) -> Result<(), CliError> {
    let key_file = Path::new("keys/operator.key");
    let text = Template { repo: "store", key_file, source: Some("sqlite:service.sqlite") }.render();
    let path = report.dir.join(FILE_NAME);
    std::fs::write(&path, text).map_err(CliError::cannot(format!("write {}", path.display())))
}

fn end(report: &DemoReport, dir: Option<&Path>) -> String {
    let end =
        if is_whole(report) { "Everything is back." } else { "Not everything came back. This is a bug in sidekeep." };
    let text = format!("\n{}\n{end}\n", rows_table(report));
    match dir {
        Some(dir) => text + &dir_line(dir),
        None => text,
    }
}

fn dir_line(dir: &Path) -> String {
    let dir = dir.to_string_lossy();
    format!("To try snapshots, show, diff and verify yourself: cd {}\n", printable(&dir))
}

const ROWS_COLUMNS: [(&str, Align); 4] = [
    ("rows of", Align::Left),
    ("before", Align::Right),
    ("after the disaster", Align::Right),
    ("restored", Align::Right),
];

fn rows_table(report: &DemoReport) -> String {
    let mut table = TextTable::new(&ROWS_COLUMNS);
    for (name, rows) in &report.before {
        let broken = rows_of(name, &report.after_disaster);
        let restored = rows_of(name, &report.after_restore);
        table.row([name.clone(), count(*rows), broken, restored]);
    }
    table.render()
}

fn rows_of(table: &str, holdings: &Holdings) -> String {
    count(holdings.get(table).copied().unwrap_or(0))
}
