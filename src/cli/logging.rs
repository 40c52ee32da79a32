//! The log of a run: what happened, how long it took, what was retried and why the run failed. Only this module
//! installs a subscriber.
//!
//! Events name objects, tables, counts, sizes, durations, statuses and SQL commands. They never contain a secret, a row,
//! an address with a query, or a header. Libraries do not follow this rule, so only this program's events are logged.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

use super::error::CliError;

/// The environment variable with the filter of the log.
pub(crate) const FILTER_VARIABLE: &str = "SIDEKEEP_LOG";
/// Prefix of the targets of this program's events.
const OWN_TARGET: &str = "sidekeep";

/// Format of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

/// What to log, where and in which format.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// How often `-v` was given.
    pub(crate) verbose: u8,
    /// Append the log to this file. `None` means standard error.
    pub(crate) file: Option<PathBuf>,
    pub(crate) format: LogFormat,
    /// Overrides `verbose`.
    pub(crate) filter: Option<OsString>,
}

impl LogOptions {
    /// Whether the log goes to standard error.
    pub(crate) fn is_on_stderr(&self) -> bool {
        self.is_on() && self.file.is_none()
    }

    fn is_on(&self) -> bool {
        self.verbose > 0 || self.file.is_some() || self.filter.is_some()
    }

    /// The targets and levels to log.
    fn targets(&self) -> Result<Targets, CliError> {
        match &self.filter {
            Some(filter) => parse_filter(&filter.to_string_lossy()),
            None => Ok(Targets::new().with_target(OWN_TARGET, self.level())),
        }
    }

    fn level(&self) -> LevelFilter {
        match self.verbose {
            0 | 1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

/// Starts the log, if the user asked for one.
/// Fails if the filter selects no events of this program, or the file cannot be opened.
pub(crate) fn start(options: &LogOptions) -> Result<(), CliError> {
    if !options.is_on() {
        return Ok(());
    }
    install_writer(options, options.targets()?)
}

fn install_writer(options: &LogOptions, targets: Targets) -> Result<(), CliError> {
    match &options.file {
        Some(path) => install(targets, options.format, Mutex::new(open(path)?)),
        None => install(targets, options.format, std::io::stderr),
    }
    Ok(())
}

/// Opens the log file. It names users' tables, so other users must not read it.
fn open(path: &Path) -> Result<File, CliError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(CliError::unusable(format!("open the log file {}", path.display())))
}

fn install<W>(targets: Targets, format: LogFormat, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let installed = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(registry().with(targets).with(lines)),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            tracing::subscriber::set_global_default(registry().with(targets).with(lines))
        }
    };
    installed.expect("nothing else installs a subscriber");
}

/// Parses a filter such as `info,sidekeep::store=debug`.
fn parse_filter(text: &str) -> Result<Targets, CliError> {
    let mut targets = Targets::new();
    for directive in text.split(',') {
        let (target, level) = parse_directive(directive.trim()).ok_or_else(|| unknown_directive(directive))?;
        targets = targets.with_target(target, level);
    }
    Ok(targets)
}

fn parse_directive(text: &str) -> Option<(&str, LevelFilter)> {
    let (target, level) = text.split_once('=').unwrap_or((OWN_TARGET, text));
    // An empty level parses as `error`.
    if !is_own(target) || level.is_empty() {
        return None;
    }
    Some((target, level.parse().ok()?))
}

/// Whether `target` is this program or one of its modules.
fn is_own(target: &str) -> bool {
    let module = target.strip_prefix(OWN_TARGET);
    module.is_some_and(|module| module.is_empty() || module.starts_with("::"))
}

fn unknown_directive(directive: &str) -> CliError {
    CliError::usage(
        format!("{FILTER_VARIABLE} contains {directive:?}, which selects no events of sidekeep"),
        "use a level (error, warn, info, debug, trace or off), or a module and a level, such as sidekeep::store=debug",
    )
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::parse_filter;

    #[test]
    fn a_filter_selects_only_events_of_this_program() {
        let targets = parse_filter("info, sidekeep::store=debug").expect("a filter");
        assert!(targets.would_enable("sidekeep::store::http", &Level::DEBUG));
        assert!(targets.would_enable("sidekeep::ops", &Level::INFO));
        assert!(!targets.would_enable("sidekeep::ops", &Level::DEBUG));
        assert!(!targets.would_enable("hyper", &Level::ERROR));
        for text in ["", "loud", "hyper=debug", "sidekeeper=debug", "info,rustls=trace", "sidekeep=loud"] {
            assert!(parse_filter(text).is_err(), "{text}");
        }
    }
}
