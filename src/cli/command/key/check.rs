//! `sidekeep key check`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::base::id::KeyId;
use crate::base::time::Moment;
use crate::cli::command::key::list::epochs;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::new_file::new_file_next_to;
use crate::cli::render::plural;
use crate::ops::keys::check::{self, KeyCheckReport};

/// Check that a key still opens what it must
///
/// Opens all grants of the key, and compares restore keys with the roster. An admin or recovery key also opens the newest
/// snapshot of every source and epoch. Only the holder of a key can find out that a grant of it is bogus: check the recovery
/// key after every new epoch, and once a year. Leaves a record in the cache directory of this host, and writes nothing to the
/// repository. Exits with 3 if something does not open.
#[derive(Args)]
#[command(after_help = "Examples:\n    sidekeep key check --key-file /mnt/usb/recovery.key")]
pub(super) struct KeyCheckArgs {}

#[derive(Serialize)]
struct KeyCheckDocument {
    #[serde(flatten)]
    report: KeyCheckReport,
    /// The file with the record of this check.
    record: Option<PathBuf>,
}

/// A record that a host keeps of the last check of a key.
#[derive(Serialize)]
struct CheckRecord {
    schema: u32,
    key: KeyId,
    checked: Moment,
    /// The number of findings that matter.
    findings: u64,
}

/// Checks the user's key.
/// Fails if the repository cannot be opened, the key is not enrolled, or the store fails.
pub(super) fn run(_args: &KeyCheckArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    context.location()?;
    let key = context.key()?;
    let repository = context.repository()?;
    repository.check_fingerprint(&key.file.header().fingerprint)?;
    let report = check::check(repository, key.identity)?;
    let record = record(&report, context);
    let document = KeyCheckDocument { report, record };
    context.ui.result("key-check", &document, human)?;
    Ok(outcome(&document.report.findings))
}

/// Writes the record. Warns if that fails, because the check itself was made.
fn record(report: &KeyCheckReport, context: &CommandContext) -> Option<PathBuf> {
    let dir = context.cache_dir()?.join("key-checks").join(report.repository.to_string());
    let path = dir.join(format!("{}.json", report.key));
    let findings = report.findings.iter().filter(|finding| finding.matters()).count() as u64;
    let record = CheckRecord { schema: 1, key: report.key, checked: context.env.now(), findings };
    match write_record(&dir, &path, &record) {
        Ok(()) => Some(path),
        Err(error) => {
            context.ui.warn(&format!("cannot write the record {}: {error}", path.display()));
            None
        }
    }
}

fn write_record(dir: &Path, path: &Path, record: &CheckRecord) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut file = new_file_next_to(path)?;
    serde_json::to_writer(&mut file, record)?;
    file.write_all(b"\n")?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn human(document: &KeyCheckDocument) -> String {
    let report = &document.report;
    let mut text = format!("{} key {}\n", report.role, report.key);
    text += &format!("opens epochs  {} ({})\n", epochs(&report.opened), plural(report.grants, "grant"));
    if report.role.is_admin() {
        text += &format!("opened        {}\n", plural(report.snapshots.len() as u64, "snapshot"));
    }
    if let Some(record) = &document.record {
        text += &format!("record        {}\n", record.display());
    }
    text + &human_findings(&report.findings)
}
