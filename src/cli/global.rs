//! The global options. Doc comments are the help text.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, PathBufValueParser};
use clap::{ArgAction, Args, ValueEnum};

use super::environment::variable;
use super::logging::{FILTER_VARIABLE, LogFormat, LogOptions};
use super::progress::Style;
use super::time;
use super::ui::{Format, Ui, Verbosity};
use super::until::{self, UntilEntry};

/// The options of every command.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Location of the repository: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory
    /// [default: repo in the configuration]
    #[arg(long, global = true, value_name = "REPO", env = "SIDEKEEP_REPO", hide_env_values = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repo: Option<String>,

    /// Key file to use [default: key_file in the configuration] [env: SIDEKEEP_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_command")]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) key_file: Option<PathBuf>,

    /// Shell command that prints the key [env: SIDEKEEP_KEY_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", value_parser = OsStringValueParser::new())]
    pub(crate) key_command: Option<OsString>,

    /// Shell command that prints the passphrase of the key [default: SIDEKEEP_PASSPHRASE, else ask on the terminal]
    #[arg(long, global = true, value_name = "COMMAND", value_parser = OsStringValueParser::new())]
    pub(crate) passphrase_command: Option<OsString>,

    /// Configuration file [default: ./sidekeep.toml, else sidekeep/sidekeep.toml in your configuration directory]
    #[arg(long, global = true, value_name = "FILE", env = "SIDEKEEP_CONFIG", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) config: Option<PathBuf>,

    /// How long to retry a request that the store does not answer, such as "30 seconds" or "1 hour" [default: up to
    /// 3 minutes]
    #[arg(long, global = true, value_name = "TIME", env = "SIDEKEEP_RETRY_TIME", hide_env_values = true)]
    #[arg(value_parser = time::parse_duration)]
    pub(crate) retry_time: Option<Duration>,

    /// Directory for cached copies of the objects that every backup reads from a remote store, and for the newest
    /// entries that commands saw, so that a repository that went back is noticed [default: sidekeep in your cache
    /// directory]
    #[arg(long, global = true, value_name = "DIR", env = "SIDEKEEP_CACHE_DIR", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Read the ledger only up to this entry, or the roster with roster:N; for emergencies, and only for commands that
    /// read
    #[arg(long, global = true, value_name = "N", value_parser = until::parse)]
    pub(crate) until_entry: Vec<UntilEntry>,

    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print only results and errors
    #[arg(long, global = true)]
    pub(crate) quiet: bool,

    /// Log phases, retries and failures to standard error, or to --log-file; twice: also every request [env:
    /// SIDEKEEP_LOG, a filter]
    #[arg(short = 'v', long = "verbose", global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Append the log to this file
    #[arg(long, global = true, value_name = "FILE", env = "SIDEKEEP_LOG_FILE", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) log_file: Option<PathBuf>,

    /// Format of the log
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// How to show progress on standard error
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto)]
    pub(crate) progress: ProgressArg,
}

impl Global {
    /// How to write results, warnings and progress.
    pub(crate) fn ui(&self) -> Ui {
        Ui { format: self.format(), verbosity: self.verbosity(), progress: self.progress_style() }
    }

    fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }

    fn verbosity(&self) -> Verbosity {
        if self.quiet { Verbosity::Quiet } else { Verbosity::Normal }
    }

    fn progress_style(&self) -> Style {
        if self.json || self.quiet {
            return Style::None;
        }
        match self.progress {
            ProgressArg::Lines => Style::Lines,
            // Log lines would break a line that is redrawn.
            ProgressArg::Auto if std::io::stderr().is_terminal() && !self.log_options().is_on_stderr() => {
                Style::Redrawn
            }
            ProgressArg::Auto | ProgressArg::None => Style::Notes,
        }
    }

    /// The options of the log.
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            verbose: self.verbose,
            file: self.log_file.clone(),
            format: self.log_format,
            filter: variable(FILTER_VARIABLE),
        }
    }
}

/// How to show progress.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// One redrawn line on a terminal, nothing elsewhere
    Auto,
    /// A new line every ten seconds, for logs
    Lines,
    /// Nothing
    None,
}
