//! Checks this host: its access to the live sources, and its disk.

use std::io::Write;
use std::path::Path;

use crate::base::finding::{Finding, FindingKind};
use crate::base::temporary::without_temporary_name;
use crate::engine::contract::{Description, Source};
use crate::engine::postgres::backup::preflight::ServerCheck;
use crate::ops::doctor::check::{Checks, Problem};
use crate::ops::doctor::options::LiveSource;
use crate::sort::{SpillError, check_space};

/// The most gaps that one line shows.
const GAPS_SHOWN: usize = 5;

const UNOPENED: &str = "check its address and whether this host may read it";

/// Checks a live source's server, opens the source and reads its schema, in the way a backup begins.
pub(super) fn check_source(live: LiveSource<'_>, checks: &mut Checks) {
    let line = format!("database {}", live.name);
    let server_checks = match live.examine.map(|examine| examine()) {
        Some(Err(error)) => return checks.fail(&line, Problem::of(FindingKind::SourceUnfit, &*error, UNOPENED)),
        Some(Ok(server_checks)) => server_checks,
        None => Vec::new(),
    };
    let is_unfit = server_checks.iter().any(ServerCheck::is_unfit);
    for check in server_checks {
        add_server_check(&line, check, checks);
    }
    if is_unfit {
        return checks.skip(&line, "it cannot be backed up in its current state");
    }
    match (live.open)() {
        Ok(mut source) => check_schema(&line, &mut *source, checks),
        Err(error) => checks.fail(&line, Problem::of(FindingKind::SourceUnfit, &*error, UNOPENED)),
    }
}

fn add_server_check(line: &str, check: ServerCheck, checks: &mut Checks) {
    let name = format!("{line}, {}", check.about);
    match check.outcome {
        Ok(detail) => checks.ok(&name, detail),
        Err(finding) => checks.found(&name, finding),
    }
}

fn check_schema(line: &str, source: &mut dyn Source, checks: &mut Checks) {
    let description = source.describe();
    let released = source.release();
    match (description, released) {
        (Ok(description), Ok(_)) => check_gaps(line, &description, checks),
        (Err(error), _) | (Ok(_), Err(error)) => {
            let remedy = "make sure that this host can read all of it";
            checks.fail(line, Problem::of(FindingKind::SourceUnfit, &error, remedy));
        }
    }
}

fn check_gaps(line: &str, description: &Description, checks: &mut Checks) {
    let gaps = &description.gaps;
    let tables = match description.tables.len() {
        1 => "1 table".to_owned(),
        count => format!("{count} tables"),
    };
    let detail = format!("{tables}, as of {}", description.source_clock);
    if gaps.is_empty() {
        return checks.ok(line, detail);
    }
    let remedy = "decide whether a restore may lack this";
    let summary = Problem::new(FindingKind::NotCaptured, format!("{detail}; {}", first_gaps(gaps)), remedy);
    let findings = gaps.iter().map(|gap| gap.clone().with_remedy(remedy)).collect();
    checks.warn_of_all(line, &summary, findings);
}

fn first_gaps(gaps: &[Finding]) -> String {
    let mut shown = Vec::new();
    for gap in gaps.iter().take(GAPS_SHOWN) {
        shown.push(format!("{}: {}", gap.object, gap.detail));
    }
    let text = shown.join("; ");
    match gaps.len().saturating_sub(GAPS_SHOWN) {
        0 => text,
        more => format!("{text} (and {more} more)"),
    }
}

/// Writes to the directory for temporary files and checks its free space.
pub(super) fn check_spill(dir: &Path, bytes_min: u64, checks: &mut Checks) {
    let name = "temporary files";
    let place = dir.display();
    let another = "name another directory";
    if let Err(error) = try_writing(dir) {
        let detail = format!("cannot write to {place}: {error}");
        return checks.fail(name, Problem::new(FindingKind::HostUnfit, detail, another));
    }
    match check_space(dir, bytes_min) {
        Ok(()) => checks.ok(name, format!("{place} is writable and has enough space")),
        Err(error @ SpillError::TooSmall { .. }) => checks.warn(name, too_small(&error)),
        Err(error) => checks.fail(name, Problem::of(FindingKind::HostUnfit, &error, another)),
    }
}

fn too_small(error: &SpillError) -> Problem<'static> {
    Problem::new(FindingKind::HostUnfit, error.to_string(), "name a directory with more free space")
}

fn try_writing(dir: &Path) -> std::io::Result<()> {
    let mut file = tempfile::tempfile_in(dir).map_err(without_temporary_name)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()
}
