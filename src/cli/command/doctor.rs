//! `sidekeep doctor`

use clap::Args;

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::role::Role;
use crate::cli::address::SourceAddress;
use crate::cli::config::Config;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::keys::OpenedKey;
use crate::cli::render::printable;
use crate::cli::source::{SourceOptions, choose};
use crate::engine::postgres::backup::preflight::{self, ServerCheck};
use crate::engine::postgres::backup::read_options::ReadOptions;
use crate::ops::doctor::{self, CheckState, ConfigFact, DoctorOptions, DoctorReport, LiveSource, Opener};
use crate::repo::error::RepoError;
use crate::repo::objects::Objects;

/// Free bytes that a backup should have for temporary files, in addition to the size of the sources.
const SPILL_BYTES_MIN: u64 = 64 << 20;

/// Test the configuration, key, store, sources and disk, and say what to fix
///
/// Runs real tests: opens the key, lets several writers race for one object in the store, opens the newest snapshots,
/// and reads the schema of every source. On a PostgreSQL server it also checks the version, rights, tools and settings.
///
/// Deletes its test objects again if this host may delete objects; otherwise it says that they stay. Exits with 3 if
/// there is a warning or a failure.
#[derive(Args)]
#[command(after_help = "\
Example:
    sidekeep doctor --config /etc/sidekeep.toml")]
pub(crate) struct DoctorArgs {}

/// Examines everything.
/// Fails if the environment names two keys, or standard output cannot be written. What is wrong otherwise is in the
/// report.
pub(crate) fn run(_args: &DoctorArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut report = match context.config() {
        Ok(config) => examine(config, context)?,
        Err(error) => doctor_of_config(&error),
    };
    // A key that failed its own check has been reported already.
    let key_fits = report.checks.iter().all(|check| check.name != "key" || check.state == CheckState::Ok);
    if key_fits && let Some(error) = other_repository(context) {
        report.add_other_repository(&error);
    }
    context.ui.result("doctor", &report, human)?;
    Ok(if report.state >= CheckState::Warning { Outcome::Findings } else { Outcome::Done })
}

/// The report if the configuration cannot be read. Nothing else can be checked then.
fn doctor_of_config(error: &CliError) -> DoctorReport {
    let remedy = error.hint().unwrap_or_else(|| "correct the configuration".to_owned());
    doctor::without_config(&error.chain(), &remedy)
}

fn examine(config: &Config, context: &CommandContext) -> Result<DoctorReport, CliError> {
    let key = context.has_key()?.then(|| context.key());
    let role = key.as_ref().and_then(|key| key.as_ref().ok()).map(|key| key.file.header().role);
    // Hosts with other keys are not meant to access the live database.
    let sources = if matches!(role, None | Some(Role::Operator)) { sources(config, context) } else { Vec::new() };
    let spill_dir = context.spill_dir(None)?;
    let options = DoctorOptions {
        config: vec![ConfigFact { name: "configuration".to_owned(), detail: Ok(config_detail(context)?) }],
        store: Some(Box::new(|| context.store().map_err(CliError::into_cause)) as Opener<'_, Objects>),
        key: key.map(|key| Box::new(move || Ok(key.map(|OpenedKey { identity, .. }| identity)?)) as Opener<'_, _>),
        sources,
        spill_dir,
        spill_bytes_min: SPILL_BYTES_MIN + source_bytes(config, context),
        env: SharedEnv::clone(&context.env),
        progress: context.silent(),
    };
    Ok(doctor::run(options))
}

fn config_detail(context: &CommandContext) -> Result<String, CliError> {
    Ok(match context.config_path()? {
        Some(path) => path.display().to_string(),
        None => "no configuration file; only options and environment variables are used".to_owned(),
    })
}

fn sources<'a>(config: &'a Config, context: &'a CommandContext) -> Vec<LiveSource<'a>> {
    config.source.keys().map(|name| live_source(name, config, context)).collect()
}

fn live_source<'a>(name: &'a str, config: &'a Config, context: &'a CommandContext) -> LiveSource<'a> {
    let chosen = move || choose(config, Some(name), context.host_environment());
    let open = move || {
        let spill_dir = context.spill_dir(None)?;
        let opening = SourceOptions { spill_dir: &spill_dir, read: ReadOptions::default(), cancel: Cancel::default() };
        Ok(chosen()?.open(context, opening)?)
    };
    let examine = match chosen() {
        Ok(source) => match source.address {
            SourceAddress::Postgres(server) => {
                let search = context.search(source.pg_bin);
                let check_server = move || {
                    let address = server.address(context.host_environment())?;
                    Ok(preflight::preflight(&address, &search)?)
                };
                Some(Box::new(check_server) as Opener<'a, Vec<ServerCheck>>)
            }
            SourceAddress::Sqlite(_) => None,
        },
        // `open` reports the reason.
        Err(_) => None,
    };
    LiveSource { name: name.to_owned(), examine, open: Box::new(open) }
}

fn source_bytes(config: &Config, context: &CommandContext) -> u64 {
    let size = |name: &String| choose(config, Some(name), context.host_environment()).ok()?.address.size();
    config.source.keys().filter_map(size).sum()
}

/// The error if the key was made for another repository than the one at the location.
fn other_repository(context: &CommandContext) -> Option<RepoError> {
    context.config().ok()?;
    if !context.has_key().ok()? {
        return None;
    }
    let key = context.key_header().ok()?;
    context.repository().ok()?.check_fingerprint(&key.fingerprint).err()
}

fn human(report: &DoctorReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let state = match check.state {
            CheckState::Ok => "ok     ",
            CheckState::Information => "info   ",
            CheckState::Skipped => "skipped",
            CheckState::Warning => "WARNING",
            CheckState::Failed => "FAILED ",
        };
        text += &format!("{state}  {}: {}\n", printable(&check.name), printable(&check.detail));
        check.remedy.iter().for_each(|remedy| text += &format!("         {}\n", printable(remedy)));
    }
    text
}
