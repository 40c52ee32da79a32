//! The options that every command takes. Doc comments are the help text.

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

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the repository lies: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a directory
    #[arg(long, global = true, value_name = "REPO", env = "SIDEKEEP_REPO", hide_env_values = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repo: Option<String>,

    /// The key to work with [env: SIDEKEEP_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_command")]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) key_file: Option<PathBuf>,

    /// A command for the shell that prints the key [env: SIDEKEEP_KEY_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", value_parser = OsStringValueParser::new())]
    pub(crate) key_command: Option<OsString>,

    /// A command for the shell that prints the passphrase of the key; else SIDEKEEP_PASSPHRASE is taken, or you are
    /// asked
    #[arg(long, global = true, value_name = "COMMAND", value_parser = OsStringValueParser::new())]
    pub(crate) passphrase_command: Option<OsString>,

    /// The configuration; default: ./sidekeep.toml, then sidekeep/sidekeep.toml in your configuration directory
    #[arg(long, global = true, value_name = "FILE", env = "SIDEKEEP_CONFIG", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) config: Option<PathBuf>,

    /// How long requests that the store does not answer are tried again, as in "30 seconds" or "1 hour"; default:
    /// up to three minutes
    #[arg(long, global = true, value_name = "TIME", env = "SIDEKEEP_RETRY_TIME", hide_env_values = true)]
    #[arg(value_parser = time::length)]
    pub(crate) retry_time: Option<Duration>,

    /// Where copies of what every backup reads of a remote store are kept, to read it once; default: sidekeep in your
    /// cache directory
    #[arg(long, global = true, value_name = "DIR", env = "SIDEKEEP_CACHE_DIR", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print results and errors only
    #[arg(long, global = true)]
    pub(crate) quiet: bool,

    /// Log phases, retries and failures; twice: every request too. On standard error, unless --log-file is given
    /// [env: SIDEKEEP_LOG, a filter]
    #[arg(short = 'v', long = "verbose", global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Append the log to this file
    #[arg(long, global = true, value_name = "FILE", env = "SIDEKEEP_LOG_FILE", hide_env_values = true)]
    #[arg(value_parser = PathBufValueParser::new())]
    pub(crate) log_file: Option<PathBuf>,

    /// How the lines of the log are written
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// How progress is shown on standard error
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto)]
    pub(crate) progress: ProgressArg,
}

impl Global {
    /// How results, warnings and progress are written.
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
            // Lines of the log would tear a line that is redrawn.
            ProgressArg::Auto if std::io::stderr().is_terminal() && !self.log_options().is_on_stderr() => {
                Style::Redrawn
            }
            ProgressArg::Auto | ProgressArg::None => Style::Notes,
        }
    }

    /// How the log is asked for.
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            verbose: self.verbose,
            file: self.log_file.clone(),
            format: self.log_format,
            filter: variable(FILTER_VARIABLE),
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// One line on a terminal, nothing elsewhere
    Auto,
    /// A line every ten seconds, for a log
    Lines,
    /// Nothing
    None,
}
