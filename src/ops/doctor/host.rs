//! This host: its way to the live sources, and its disk.

use std::io::Write;
use std::path::Path;

use crate::ops::doctor::check::Checks;
use crate::ops::doctor::options::Opener;
use crate::sort::{SpillError, check_space};
use crate::source::contract::Source;

/// Opens a live source and looks at its schema, in the way a backup begins.
pub(super) fn check_source(name: &str, open: Opener<'_, Box<dyn Source>>, checks: &mut Checks) {
    let line = format!("database {name}");
    let mut source = match open() {
        Ok(source) => source,
        Err(error) => return checks.fail(&line, &*error, "check its address, and that this host may read it"),
    };
    let description = source.describe();
    let released = source.release();
    match (description, released) {
        (Ok(description), Ok(())) => {
            let detail = format!("{} tables, as of {}", description.tables.len(), description.source_clock);
            match description.gaps.first() {
                None => checks.ok(&line, detail),
                Some(gap) => {
                    let more = match description.gaps.len() {
                        1 => String::new(),
                        all => format!(" (and {} more)", all - 1),
                    };
                    let detail = format!("{detail}; {}: {}{more}", gap.object, gap.reason);
                    checks.warn(&line, detail, "decide whether that may be missing in a restore");
                }
            }
        }
        (Err(error), _) | (Ok(_), Err(error)) => {
            checks.fail(&line, &error, "make sure that this host may read all of it")
        }
    }
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
