//! `sidekeep doctor`
//!
//! Each check does what a real command would do, and reports the error that it would have ended with. A check that
//! needs what an earlier one could not get is left out.

use clap::Args;
use rustix::fs::statvfs;
use serde::Serialize;

use crate::base::env::SharedEnv;
use crate::base::role::Role;
use crate::cli::config::Config;
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::keys::Opened;
use crate::cli::render::{bytes, plural, printable};
use crate::cli::source::choose;
use crate::repo::create::check_store;
use crate::source::contract::Gap;
use crate::store::Store;

/// Try the configuration, the key, the store, the sources and the disk, and say what is wrong and what to do
///
/// Acts for real: opens the key, lets several writers race for an object in the store, reads the schema of every
/// source. Changes nothing that lasts. Ends with 3 if anything is wrong.
#[derive(Args)]
#[command(after_help = "\
Example:
    sidekeep doctor --config /etc/sidekeep.toml")]
pub(crate) struct DoctorArgs {}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    what: String,
    state: State,
    detail: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Well,
    Wrong,
}

/// The checks so far.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    /// Notes what a check found; gives back what later checks work with.
    fn note<T>(&mut self, what: &str, found: Result<(T, String), CliError>) -> Option<T> {
        let (value, state, detail, hint) = match found {
            Ok((value, detail)) => (Some(value), State::Well, detail, None),
            Err(error) => (None, State::Wrong, error.chain(), error.hint()),
        };
        self.0.push(Check { what: what.to_owned(), state, detail, hint });
        value
    }
}

pub(crate) fn run(_args: &DoctorArgs, context: &Context) -> Result<Outcome, CliError> {
    let mut checks = Checks::default();
    if let Some(config) = checks.note("configuration", configuration(context)) {
        examine(config, context, &mut checks);
    }
    let report = Report { checks: checks.0 };
    let is_well = report.checks.iter().all(|check| check.state == State::Well);
    context.ui.result("doctor", &report, human)?;
    Ok(if is_well { Outcome::Done } else { Outcome::Findings })
}

fn examine(config: &Config, context: &Context, checks: &mut Checks) {
    let location = checks.note("location", context.location().map(|location| ((), location.to_string())));
    let key = checks.note("key", key(context));
    let role = key.as_ref().map(|key| key.file.header().role);
    // An auditor need not be able to write to the store.
    if location.is_some() && role != Some(Role::Auditor) {
        checks.note("store", store(context));
    }
    if let (Some(()), Some(key)) = (location, key) {
        checks.note("repository", repository(context, key));
    }
    // Whoever holds another key has no business with the live database.
    if matches!(role, None | Some(Role::Operator)) {
        for name in config.source.keys() {
            let what = format!("source {name}");
            for gap in checks.note(&what, live_source(context, config, name)).into_iter().flatten() {
                let detail = format!("cannot capture {}: {}", gap.object, gap.reason);
                checks.0.push(Check { what: what.clone(), state: State::Wrong, detail, hint: None });
            }
        }
        checks.note("disk", disk(context));
    }
}

fn configuration(context: &Context) -> Result<(&Config, String), CliError> {
    let config = context.config()?;
    let detail = match context.config_path()? {
        Some(path) => path.display().to_string(),
        None => "there is none; options and environment variables are used alone".to_owned(),
    };
    Ok((config, detail))
}

fn key(context: &Context) -> Result<(Opened, String), CliError> {
    let key = context.key()?;
    let header = key.file.header();
    let detail = format!("{} key {} ({})", header.role, header.key, header.label);
    Ok((key, detail))
}

fn store(context: &Context) -> Result<((), String), CliError> {
    let objects = context.objects(Store::open_with(&context.location()?, &context.store_options())?);
    let left = check_store(&objects, &context.env)?;
    let detail = "of many writers of one object exactly one wins".to_owned();
    Ok(((), left.map_or(detail.clone(), |left| format!("{detail}; {left}"))))
}

fn repository(context: &Context, key: Opened) -> Result<((), String), CliError> {
    let unlocked = context.unlock(key)?;
    let repository = unlocked.repository();
    let sources = plural(repository.roster().sources.len() as u64, "source");
    Ok(((), format!("{} with {sources}; the key opens what it may", repository.id())))
}

fn live_source(context: &Context, config: &Config, name: &str) -> Result<(Vec<Gap>, String), CliError> {
    let address = choose(config, Some(name))?.address;
    let mut live = address.open(&context.spill_dir(None)?, &SharedEnv::clone(&context.env))?;
    let description = live.describe()?;
    live.release()?;
    let tables = plural(description.tables.len() as u64, "table");
    Ok((description.gaps, format!("{address} with {tables}")))
}

fn disk(context: &Context) -> Result<((), String), CliError> {
    let dir = context.spill_dir(None)?;
    let failed = |source| CliError::Io { doing: format!("lay rows aside in {}", dir.display()), source };
    tempfile::tempfile_in(&dir).map_err(failed)?;
    let space = statvfs(&dir).map_err(|error| failed(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    Ok(((), format!("{} with {} free", dir.display(), bytes(free))))
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let state = if check.state == State::Well { "ok   " } else { "WRONG" };
        text += &format!("{state}  {}: {}\n", printable(&check.what), printable(&check.detail));
        check.hint.iter().for_each(|hint| text += &format!("       {hint}\n"));
    }
    text
}
