//! The command line as it is written. Doc comments are the help text. What a word means is found out elsewhere.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, PathBufValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::command::{
    backup, completions, demo, diff, doctor, init, man, owners, restore, show, snapshots, status, verify,
};
use super::time;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed
    2  wrong usage
    3  done, with findings
    4  no repository there
    5  wrong or insufficient key
    6  somebody else's work stands in the way
    7  store, source or target unreachable or refusing
  130  interrupted";

/// Disaster-recovery snapshots of a sync service's database: deduplicated, encrypted, verifiable, and restorable
/// without the live cluster.
#[derive(Parser)]
#[command(name = "sidekeep", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Owners(owners::OwnersArgs),
    Backup(backup::BackupArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Restore(restore::RestoreArgs),
    Verify(verify::VerifyArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

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

    /// How progress is shown on standard error
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value_t = ProgressArg::Auto)]
    pub(crate) progress: ProgressArg,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// One line on a terminal, nothing elsewhere
    Auto,
    /// A line every ten seconds, for a log
    Lines,
    /// Nothing
    None,
}
