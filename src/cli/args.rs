//! The command line: the commands and the global options. Doc comments are the help text.

use clap::{Parser, Subcommand};

use super::command::{
    backup, completions, demo, diff, doctor, init, key, man, owners, restore, show, snapshots, source, status, verify,
};
use super::global::Global;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed
    2  wrong usage
    3  done, with findings
    4  no repository at this location
    5  wrong key, or the key's role does not allow this
    6  blocked by an existing repository or another process
    7  store, source or target is unreachable or refused the request
  130  interrupted";

/// Back up a sync service's database as deduplicated, encrypted snapshots, and restore it without the live cluster.
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
    Source(source::SourceCommandArgs),
    Key(key::KeyCommandArgs),
    Doctor(doctor::DoctorArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Whether it may write to a repository, if only a probe.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Init(_) | Self::Backup(_) | Self::Doctor(_) | Self::Demo(_) => true,
            Self::Owners(args) => args.writes(),
            Self::Source(args) => args.writes(),
            Self::Key(args) => args.writes(),
            Self::Snapshots(_) | Self::Show(_) | Self::Diff(_) | Self::Restore(_) | Self::Verify(_) => false,
            Self::Status(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}
