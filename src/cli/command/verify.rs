//! `sidekeep verify`

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::builder::{NonEmptyStringValueParser, PathBufValueParser};
use clap::{Args, ValueEnum};

use crate::base::env::SharedEnv;
use crate::base::id::Digest;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::render::{bytes, count, moment, plural, printable, short};
use crate::cli::snapshot::SourceArgs;
use crate::ops::select::Selector;
use crate::ops::verify::{self, Access, Heads, SourceChecked, VerifyLevel, VerifyOptions, VerifyReport, Visit};
use crate::repo::check::{Finding, Severity};
use crate::repo::error::RepoError;
use crate::repo::open::{Repository, Unlocked};

/// Findings that are only worth knowing, shown one by one.
const INFORMATION_SHOWN: usize = 5;

/// Check that what was stored is still there, unaltered, complete and restorable
///
/// Reports every finding with what to do about it and ends with 3 if there is any that matters. The levels quick and
/// read need no key; structure needs any, deep the admin's or the recovery key.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep verify --repo s3://sync-backups/main --fingerprint 9f2c...
    sidekeep verify --level read --state /var/lib/sidekeep/verified.json
    sidekeep verify latest --level deep --key-file admin.key")]
pub(crate) struct VerifyArgs {
    /// Check only these snapshots, at the levels structure and deep: ids, latest~2, tags
    #[arg(value_name = "SNAPSHOT", value_parser = NonEmptyStringValueParser::new())]
    snapshots: Vec<String>,
    /// How thoroughly
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LevelArg::Quick)]
    level: LevelArg,
    /// The repository must have this fingerprint; default: the one in the key file
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Digest>,
    /// Remember in this file what was seen, and find out the next time if anything of it is gone
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new())]
    state: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LevelArg {
    /// The signed chains, and that every object is there with its size
    Quick,
    /// And every stored byte against its digest
    Read,
    /// Quick, and that everything that snapshots refer to is where it must be
    Structure,
    /// Structure, and every row opened, decoded and computed again
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

/// What is looked at, with a key or without.
enum VerifyTarget {
    Public(Repository),
    Key(Box<Unlocked>),
}

pub(crate) fn run(args: &VerifyArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let level = VerifyLevel::from(args.level);
    if !args.snapshots.is_empty() && level < VerifyLevel::Structure {
        return Err(CliError::Usage {
            message: "the levels quick and read check all snapshots at once".to_owned(),
            hint: "name no snapshot, or say --level structure or --level deep",
        });
    }
    let visit = args.state.as_deref().map_or(Ok(Visit::First), read_state)?;
    let report = match Repository::open(context.store()?, SharedEnv::clone(&context.env)) {
        Ok(repository) => checked(args, context, repository, visit)?,
        // A repository that is so damaged that it does not open is a finding too.
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
    let matters = |finding: &Finding| finding.severity != Severity::Information;
    Ok(if report.findings.iter().any(matters) { Outcome::Findings } else { Outcome::Done })
}

fn checked(
    args: &VerifyArgs,
    context: &CommandContext,
    repository: Repository,
    visit: Visit,
) -> Result<VerifyReport, CliError> {
    let level = VerifyLevel::from(args.level);
    let has_key = context.has_key()?;
    let pinned = match &args.fingerprint {
        Some(fingerprint) => Some(*fingerprint),
        None => has_key.then(|| context.key_header()).transpose()?.map(|header| header.fingerprint),
    };
    pinned.map_or(Ok(()), |fingerprint| repository.check_fingerprint(&fingerprint))?;
    // What needs no key is checked without, unless only a key can tell which source is meant.
    let opened = if has_key && (level >= VerifyLevel::Structure || args.source.is_named()) {
        VerifyTarget::Key(Box::new(repository.unlock(context.key()?.identity)?))
    } else {
        VerifyTarget::Public(repository)
    };
    let (access, source) = match &opened {
        VerifyTarget::Public(repository) => (Access::Public(repository), args.source.find_public(repository)?),
        VerifyTarget::Key(unlocked) => {
            let source = args.source.is_named().then(|| args.source.find(unlocked)).transpose()?;
            (Access::Key(unlocked), source)
        }
    };
    let snapshots = args.snapshots.iter().map(|snapshot| Selector::parse(snapshot)).collect();
    context.monitor(|monitor| {
        let (progress, cancel) = (monitor.progress, monitor.cancel);
        verify::run(access, &VerifyOptions { level, source, snapshots, visit, progress, cancel })
    })
}

fn read_state(path: &Path) -> Result<Visit, CliError> {
    let failed = |source| CliError::Io { doing: format!("read {}", path.display()), source };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Visit::Again).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Visit::First),
        Err(error) => Err(failed(error)),
    }
}

/// Replaces the file at once, so that an interrupted check leaves the older one.
fn write_state(path: &Path, heads: &Heads) -> Result<(), CliError> {
    let failed = |source| CliError::Io { doing: format!("write {}", path.display()), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    let text = serde_json::to_vec_pretty(heads).expect("heads are JSON");
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn human(report: &VerifyReport) -> String {
    let mut text = String::new();
    if let (Some(repository), Some(heads)) = (&report.repository, &report.heads) {
        text += &format!("repository {repository}, fingerprint {}\n", heads.fingerprint);
    }
    report.sources.iter().for_each(|source| text += &human_source(source));
    text += &format!("{} of {} in the store", plural(report.objects, "object"), bytes(report.object_bytes));
    match report.level {
        VerifyLevel::Quick => text += "; all looked for, none read whole (--level read does)\n",
        VerifyLevel::Read => {
            text += &format!("; {} read and compared\n", bytes(report.bytes_read));
        }
        VerifyLevel::Structure | VerifyLevel::Deep => text += "\n",
    }
    let (information, matters): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.severity == Severity::Information);
    matters.iter().for_each(|finding| text += &human_finding(finding));
    information.iter().take(INFORMATION_SHOWN).for_each(|finding| text += &human_finding(finding));
    let more = information.len().saturating_sub(INFORMATION_SHOWN) as u64;
    if more > 0 {
        text += &format!("and {} that are only worth knowing; --json has them all\n", plural(more, "finding"));
    }
    if matters.is_empty() {
        text += "nothing is wrong\n";
    }
    text
}

fn human_source(source: &SourceChecked) -> String {
    let id = source.source.to_string();
    let mut text = format!(
        "source {}: {} in the ledger, {} of {}, {}\n",
        printable(source.name.as_deref().unwrap_or(&id)),
        if source.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", count(source.entries)) },
        plural(source.packs, "pack"),
        bytes(source.pack_bytes),
        plural(source.manifests, "manifest"),
    );
    for snapshot in &source.snapshots {
        let state = if snapshot.intact { "intact " } else { "DAMAGED" };
        text += &format!("  {state}  {}  as of {}", short(&snapshot.snapshot), moment(snapshot.source_clock));
        if snapshot.opened > 0 {
            text += &format!(", {} opened", bytes(snapshot.opened_bytes));
        }
        text.push('\n');
        let gaps: BTreeSet<&str> = snapshot.gaps.iter().map(|gap| gap.object.as_str()).collect();
        if !gaps.is_empty() {
            let gaps: Vec<&str> = gaps.into_iter().collect();
            text += &format!("           not captured, or not whole: {}\n", printable(&gaps.join(", ")));
        }
    }
    text
}

fn human_finding(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Damage => "DAMAGE",
        Severity::Warning => "warning",
        Severity::Information => "info",
    };
    let mut text = format!("{severity}: {}: {}", printable(&finding.object), printable(&finding.what));
    if finding.count > 1 {
        text += &format!(" ({} times)", count(finding.count));
    }
    text.push('\n');
    if !finding.tables.is_empty() {
        let tables: Vec<&str> = finding.tables.iter().map(String::as_str).collect();
        text += &format!("  tables: {}\n", printable(&tables.join(", ")));
    }
    if !finding.snapshots.is_empty() {
        let snapshots: Vec<String> = finding.snapshots.iter().map(short).collect();
        text += &format!("  snapshots: {}\n", snapshots.join(", "));
    }
    text + &format!("  {}\n", printable(&finding.remedy))
}
