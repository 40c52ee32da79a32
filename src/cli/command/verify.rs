//! `sidekeep verify`

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::builder::{NonEmptyStringValueParser, PathBufValueParser};
use clap::{Args, ValueEnum};

use crate::base::env::SharedEnv;
use crate::base::finding::Finding;
use crate::base::id::{Digest, SourceId};
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::new_file::new_file_next_to;
use crate::cli::render::{bytes, count, moment, plural, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::cli::until;
use crate::ops::access::RepositoryAccess;
use crate::ops::select::Selector;
use crate::ops::verify::{self, Heads, SnapshotChecked, SourceChecked, VerifyLevel, VerifyOptions, VerifyReport};
use crate::repo::error::RepoError;
use crate::repo::open::{Repository, Unlocked};

/// Maximum number of informational findings that are shown.
const INFORMATION_SHOWN: usize = 5;

/// Check that the stored data is present, unaltered, complete and restorable
///
/// Reports every finding with what to do about it. Exits with 3 if there are findings other than information.
///
/// The levels quick and read need no key. The level structure needs any key, and deep needs an admin or recovery key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep verify --repo s3://sync-backups/main --fingerprint 9f2c...
    sidekeep verify --level read --state /var/lib/sidekeep/verified.json
    sidekeep verify latest --level deep --key-file admin.key")]
pub(crate) struct VerifyArgs {
    /// Check only these snapshots (ids, latest~2 or tags), at the level structure or deep
    #[arg(value_name = "SNAPSHOT", value_parser = NonEmptyStringValueParser::new())]
    snapshots: Vec<String>,
    /// How much to check
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LevelArg::Quick)]
    level: LevelArg,
    /// Require that the repository has this fingerprint [default: the one in the key file]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Digest>,
    /// Record in this file what was seen, and report what has disappeared since the previous run
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new())]
    state: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LevelArg {
    /// Check the signed chains, and that every object is present with its size
    Quick,
    /// Like quick, and compare every stored byte with its digest
    Read,
    /// Like quick, and check that everything that the snapshots refer to exists at its location
    Structure,
    /// Like structure, and open, decode and recompute every row
    Deep,
}

impl From<LevelArg> for VerifyLevel {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Quick => Self::Quick,
            LevelArg::Read => Self::Read,
            LevelArg::Structure => Self::Structure,
            LevelArg::Deep => Self::Deep,
        }
    }
}

/// The repository, with or without a key.
enum VerifyTarget {
    Public(Repository),
    Key(Box<Unlocked>),
}

/// Checks the repository.
/// Fails if the level checks no single snapshots and one is named, the state file cannot be read or written, the
/// fingerprint is another, the level needs another key, the source is not found, the store fails, or the check is
/// cancelled.
pub(crate) fn run(args: &VerifyArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let level = VerifyLevel::from(args.level);
    if !args.snapshots.is_empty() && level < VerifyLevel::Structure {
        return Err(CliError::Usage {
            message: "the levels quick and read always check all snapshots".to_owned(),
            hint: "name no snapshot, or use --level structure or --level deep",
        });
    }
    if args.state.is_some() && context.reads_in_part() {
        return Err(until::state_refused());
    }
    let known_heads = args.state.as_deref().map(prepare_state).transpose()?.flatten();
    let report = match Repository::open(context.store()?, SharedEnv::clone(&context.env)) {
        Ok(repository) => check(args, context, repository, known_heads)?,
        // A repository that is too damaged to open is also a finding.
        Err(error @ (RepoError::Missing { .. } | RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
            verify::unopened(error, level).ok_or(CliError::Bug)?
        }
        Err(error) => return Err(error.into()),
    };
    if let (Some(path), Some(heads)) = (&args.state, &report.heads)
        && !report.has_damage()
    {
        write_state(path, heads)?;
    }
    context.ui.result("verify", &report, human)?;
    Ok(outcome(&report.findings))
}

fn check(
    args: &VerifyArgs,
    context: &CommandContext,
    repository: Repository,
    known_heads: Option<Heads>,
) -> Result<VerifyReport, CliError> {
    if let Some(fingerprint) = pinned_fingerprint(args, context)? {
        repository.check_fingerprint(&fingerprint)?;
    }
    let target = VerifyTarget::open(args, context, repository)?;
    let level = VerifyLevel::from(args.level);
    let source = target.source(args, context)?;
    let snapshots = args.snapshots.iter().map(|snapshot| Selector::parse(snapshot)).collect();
    context.monitor(|monitor| {
        let options =
            VerifyOptions { level, source, snapshots, known_heads, progress: monitor.progress, cancel: monitor.cancel };
        verify::run(target.access(), &options)
    })
}

/// The fingerprint that the repository must have: from the option, else from the key.
fn pinned_fingerprint(args: &VerifyArgs, context: &CommandContext) -> Result<Option<Digest>, CliError> {
    if args.fingerprint.is_some() || !context.has_key()? {
        return Ok(args.fingerprint);
    }
    Ok(Some(context.key_header()?.fingerprint))
}

impl VerifyTarget {
    /// Uses a key only if the level needs one, or if a source is named and must be found by its name.
    fn open(args: &VerifyArgs, context: &CommandContext, repository: Repository) -> Result<Self, CliError> {
        let uses_key = VerifyLevel::from(args.level) >= VerifyLevel::Structure || args.source.is_named();
        if !uses_key || !context.has_key()? {
            return Ok(Self::Public(repository));
        }
        let unlocked = repository.unlock(context.key()?.identity)?;
        Ok(Self::Key(Box::new(unlocked)))
    }

    fn access(&self) -> RepositoryAccess<'_> {
        match self {
            Self::Public(repository) => RepositoryAccess::WithoutKey(repository),
            Self::Key(unlocked) => RepositoryAccess::WithKey(unlocked),
        }
    }

    /// Finds the source, if the user named one.
    fn source(&self, args: &VerifyArgs, context: &CommandContext) -> Result<Option<SourceId>, CliError> {
        match self {
            Self::Public(repository) => args.source.find_public(repository, context),
            Self::Key(unlocked) => args.source.find_named(unlocked, context),
        }
    }
}

/// Checks that the state can be written after the check, which may take hours. Returns what the previous run recorded.
fn prepare_state(path: &Path) -> Result<Option<Heads>, CliError> {
    let known_heads = read_state(path)?;
    new_file_next_to(path).map_err(CliError::unusable(format!("write {}", path.display())))?;
    Ok(known_heads)
}

/// What the previous run recorded. `None` if the file does not exist.
fn read_state(path: &Path) -> Result<Option<Heads>, CliError> {
    let read = match std::fs::read(path) {
        Ok(bytes) => parse_state(&bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    read.map_err(CliError::unusable(format!("read {}", path.display())))
}

fn parse_state(bytes: &[u8]) -> std::io::Result<Heads> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Replaces the file atomically, so that an interrupted run leaves the previous state.
fn write_state(path: &Path, heads: &Heads) -> Result<(), CliError> {
    let doing = format!("write {}", path.display());
    let mut file = new_file_next_to(path).map_err(CliError::unusable(&doing))?;
    let text = serde_json::to_vec_pretty(heads).expect("heads are JSON");
    let written = file.as_file_mut().write_all(&text).and_then(|()| file.as_file().sync_all());
    written.map_err(CliError::cannot(&doing))?;
    file.persist(path).map_err(|error| CliError::unusable(&doing)(error.error))?;
    Ok(())
}

fn human(report: &VerifyReport) -> String {
    let mut text = String::new();
    if let (Some(repository), Some(heads)) = (&report.repository, &report.heads) {
        text += &format!("repository {repository}, fingerprint {}\n", heads.fingerprint);
    }
    for source in &report.sources {
        text += &human_source(source);
    }
    text += &human_extent(report);
    text + &human_result(&report.findings)
}

/// How much was checked.
fn human_extent(report: &VerifyReport) -> String {
    let objects = format!("{} of {} in the store", plural(report.objects, "object"), bytes(report.object_bytes));
    match report.level {
        VerifyLevel::Quick => format!("{objects}; presence and sizes checked, contents not read\n"),
        VerifyLevel::Read => format!("{objects}; {} read and compared\n", bytes(report.bytes_read)),
        VerifyLevel::Structure | VerifyLevel::Deep => format!("{objects}\n"),
    }
}

fn human_result(findings: &[Finding]) -> String {
    let (matters, information): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|finding| finding.matters());
    let is_well = matters.is_empty();
    let mut text = human_findings(matters) + &human_information(information);
    if is_well {
        text += "nothing is wrong\n";
    }
    text
}

fn human_information(findings: Vec<&Finding>) -> String {
    let more = findings.len().saturating_sub(INFORMATION_SHOWN) as u64;
    let text = human_findings(findings.into_iter().take(INFORMATION_SHOWN));
    if more == 0 {
        return text;
    }
    format!("{text}and {} more, for information only; use --json to see all\n", plural(more, "finding"))
}

fn human_entries(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{} entries", count(entries)) }
}

fn human_objects(source: &SourceChecked) -> String {
    let id = source.source.to_string();
    let name = printable(source.name.as_deref().unwrap_or(&id));
    let entries = human_entries(source.entries);
    let packs = plural(source.packs, "pack");
    let manifests = plural(source.manifests, "manifest");
    format!("source {name}: {entries} in the ledger, {packs} of {}, {manifests}\n", bytes(source.pack_bytes))
}

fn human_source(source: &SourceChecked) -> String {
    let mut text = human_objects(source);
    for snapshot in &source.snapshots {
        text += &human_snapshot(snapshot);
    }
    text
}

fn human_snapshot(snapshot: &SnapshotChecked) -> String {
    let state = if snapshot.intact { "intact " } else { "DAMAGED" };
    let mut text = format!("  {state}  {}  as of {}", short(&snapshot.snapshot), moment(snapshot.source_clock));
    if snapshot.opened > 0 {
        text += &format!(", {} opened", bytes(snapshot.opened_bytes));
    }
    text.push('\n');
    let gaps: BTreeSet<&str> = snapshot.gaps.iter().map(|gap| gap.object.as_str()).collect();
    if !gaps.is_empty() {
        let gaps: Vec<&str> = gaps.into_iter().collect();
        text += &format!("           not captured, or incomplete: {}\n", printable(&gaps.join(", ")));
    }
    text
}
