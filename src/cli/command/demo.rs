//! `sidekeep demo`
//!
//! Every step is this very program, run as a user would run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use clap::builder::PathBufValueParser;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::demo_service::{Holdings, Service, holdings};
use crate::cli::exit::{CliError, Outcome};
use crate::cli::render::plural;
use crate::cli::ui::Ui;

const DAYS: [&str; 6] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DATABASE: &str = "service.db";
const RESTORED: &str = "restored.sqlite";

/// Play a week of a small sync service, with a disaster and a restore; needs no server and touches nothing of yours
///
/// Makes a database of 250 users, backs it up for a week, breaks it, looks at what is lost, and brings it back. Every
/// command is printed as you would type it.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep demo
    sidekeep demo --dir playground")]
pub(crate) struct DemoArgs {
    /// Play in this new directory and leave it there; default: a temporary one
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new())]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    steps: Vec<Step>,
    before: Holdings,
    broken: Holdings,
    restored: Holdings,
}

#[derive(Serialize)]
struct Step {
    command: String,
    exit_code: i32,
    output: String,
}

/// Where the demo plays.
struct Stage {
    ui: Ui,
    dir: PathBuf,
    program: PathBuf,
    steps: Vec<Step>,
}

pub(crate) fn run(args: &DemoArgs, context: &Context) -> Result<Outcome, CliError> {
    let failed = |source| CliError::Io { doing: "make a directory for the demo".to_owned(), source };
    let temporary = tempfile::Builder::new().prefix("sidekeep-demo-").tempdir().map_err(failed)?;
    let dir = match &args.dir {
        Some(dir) => {
            std::fs::create_dir(dir).map_err(failed)?;
            dir.clone()
        }
        None => temporary.path().to_owned(),
    };
    let program =
        std::env::current_exe().map_err(|source| CliError::Io { doing: "find this program".to_owned(), source })?;
    let mut stage = Stage { ui: context.ui, dir, program, steps: Vec::new() };
    let (before, broken) = stage.week()?;
    let restored = stage.morning_after()?;
    stage.say(&format!(
        "\nbefore:    {}\nbroken:    {}\nrestored:  {}\n",
        line(&before),
        line(&broken),
        line(&restored)
    ))?;
    let is_whole = before == restored;
    stage.say(if is_whole { "\nEverything is back.\n" } else { "\nNot everything came back: that is a bug.\n" })?;
    if let Some(dir) = &args.dir {
        stage.say(&format!("The repository, its keys and both databases are in {}.\n", dir.display()))?;
    }
    context.ui.result("demo", &Report { steps: stage.steps, before, broken, restored }, |_| String::new())?;
    Ok(if is_whole { Outcome::Done } else { Outcome::Findings })
}

fn line(holdings: &Holdings) -> String {
    let mut text = format!(
        "{}, {}, {}, {}",
        plural(holdings.users, "user"),
        plural(holdings.contacts, "contact"),
        plural(holdings.events, "event"),
        plural(holdings.photos, "photo"),
    );
    if holdings.contacts_without_phone > 0 {
        text += &format!("; {} without phone number", plural(holdings.contacts_without_phone, "contact"));
    }
    text
}

impl Stage {
    /// Six good days and a bad one. Returns what the service held before and after it broke.
    fn week(&mut self) -> Result<(Holdings, Holdings), CliError> {
        let path = self.dir.join(DATABASE);
        let mut service = Service::create(&path).map_err(|error| broken(&error))?;
        self.say("Sunday: a small sync service opens, and gets a repository beside it.\n")?;
        self.play(0, &["init", "repo", "--source", &format!("sqlite:{DATABASE}"), "--keys-dir", "keys"])?;
        self.play(0, &["backup", "--tag", "opening"])?;
        for (day, name) in (1..).zip(DAYS) {
            service.live_a_day(day).map_err(|error| broken(&error))?;
            self.say(&format!("\n{name}: people add contacts, events and photos. A night is cheap:\n"))?;
            self.play(0, &["backup"])?;
        }
        let before = holdings(&path).map_err(|error| broken(&error))?;
        service.break_down().map_err(|error| broken(&error))?;
        let after = holdings(&path).map_err(|error| broken(&error))?;
        self.say("\nSunday: an upgrade drops the contacts of every third user. The nightly backup runs as ever:\n")?;
        self.play(0, &["backup"])?;
        Ok((before, after))
    }

    /// Looks at the damage and restores. Returns what the restored database holds.
    fn morning_after(&mut self) -> Result<Holdings, CliError> {
        self.say("\nMonday morning: what is there, and who lost what?\n")?;
        self.play(0, &["snapshots"])?;
        self.play(0, &["diff", "latest~1", "latest", "--users", "3", "--key-file", "keys/admin.key"])?;
        self.say("\nThe key of the host that makes the backups opens nothing:\n")?;
        self.play(5, &["restore", "latest~1", "--to", RESTORED])?;
        self.say("\nThe admin's key does, with nothing but the repository at hand:\n")?;
        self.play(0, &["restore", "latest~1", "--to", RESTORED, "--key-file", "keys/admin.key"])?;
        self.say("\nAnd whoever audits the repository checks every byte of it without any key:\n")?;
        self.play(0, &["verify", "--level", "read"])?;
        holdings(&self.dir.join(RESTORED)).map_err(|error| broken(&error))
    }

    /// Runs this program with `args`, shows what it says, and expects it to end with `code`.
    fn play(&mut self, code: i32, args: &[&str]) -> Result<(), CliError> {
        let command = format!("sidekeep {}", args.join(" "));
        self.say(&format!("$ {command}\n"))?;
        let failed = |source| CliError::Io { doing: format!("run {command}"), source };
        let ran = plain(&self.program, &self.dir).args(args).output().map_err(failed)?;
        let output = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        let indented: String = output.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect();
        self.say(&indented)?;
        let exit_code = ran.status.code().unwrap_or(-1);
        if exit_code != code {
            let source = std::io::Error::other(format!("it ended with {exit_code}: {}", output.trim()));
            return Err(CliError::Io { doing: format!("go on: {command}"), source });
        }
        self.steps.push(Step { command, exit_code, output });
        Ok(())
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        self.ui.say(text)
    }
}

/// This program in `dir`, without settings that are meant for real repositories.
fn plain(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIDEKEEP_") {
            command.env_remove(name);
        }
    }
    command
}

fn broken(error: &rusqlite::Error) -> CliError {
    CliError::Io { doing: "run the service of the demo".to_owned(), source: std::io::Error::other(error.to_string()) }
}
