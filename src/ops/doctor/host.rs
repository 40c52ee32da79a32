//! This host: its way to the live sources, and its disk.

use std::io::Write;
use std::path::Path;

use crate::engine::contract::Gap;
use crate::engine::postgres::backup::preflight::{Remark, Standing};
use crate::ops::doctor::check::Checks;
use crate::ops::doctor::options::LiveSource;
use crate::sort::{SpillError, check_space};

/// Gaps in one line.
const GAPS_SHOWN: usize = 5;

/// Looks at its server, opens a live source and looks at its schema, in the way a backup begins.
pub(super) fn check_source(live: LiveSource<'_>, checks: &mut Checks) {
    let line = format!("database {}", live.name);
    let unopened = "check its address, and that this host may read it";
    match live.examine.map(|examine| examine()) {
        Some(Err(error)) => return checks.fail(&line, &*error, unopened),
        Some(Ok(remarks)) => {
            remarks.iter().for_each(|remark| remarked(&line, remark, checks));
            if remarks.iter().any(|remark| remark.standing == Standing::Unfit) {
                return checks.skip(&line, "no backup can be taken of it as it is");
            }
        }
        None => {}
    }
    let mut source = match (live.open)() {
        Ok(source) => source,
        Err(error) => return checks.fail(&line, &*error, unopened),
    };
    let description = source.describe();
    let released = source.release();
    match (description, released) {
        (Ok(description), Ok(_)) => {
            let detail = format!("{} tables, as of {}", description.tables.len(), description.source_clock);
            if description.gaps.is_empty() {
                return checks.ok(&line, detail);
            }
            let detail = format!("{detail}; {}", listed(&description.gaps));
            checks.warn(&line, detail, "decide whether that may be missing in a restore");
        }
        (Err(error), _) | (Ok(_), Err(error)) => {
            checks.fail(&line, &error, "make sure that this host may read all of it")
        }
    }
}

fn remarked(line: &str, remark: &Remark, checks: &mut Checks) {
    let name = format!("{line}, {}", remark.about);
    match remark.standing {
        Standing::Well => checks.ok(&name, &remark.what),
        Standing::Doubtful => checks.warn(&name, &remark.what, &remark.remedy),
        Standing::Unfit => checks.fail_with(&name, &remark.what, &remark.remedy),
    }
}

fn listed(gaps: &[Gap]) -> String {
    let shown: Vec<String> =
        gaps.iter().take(GAPS_SHOWN).map(|gap| format!("{}: {}", gap.object, gap.reason)).collect();
    let more = match gaps.len().saturating_sub(GAPS_SHOWN) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("{}{more}", shown.join("; "))
}

/// Writes to the directory for temporary files and looks at the room in it.
pub(super) fn check_spill(dir: &Path, bytes_min: u64, checks: &mut Checks) {
    let written = tempfile::tempfile_in(dir).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let place = dir.display();
    if let Err(error) = written {
        let detail = format!("cannot write to {place}: {error}");
        return checks.fail_with("temporary files", detail, "name another directory");
    }
    match check_space(dir, bytes_min) {
        Ok(()) => checks.ok("temporary files", format!("{place} can be written and has room")),
        Err(error @ SpillError::TooSmall { .. }) => {
            checks.warn("temporary files", error.to_string(), "name a directory with more room");
        }
        Err(error) => checks.fail("temporary files", &error, "name another directory"),
    }
}
