//! Judges what the demo has proven, and what it has failed to prove.

use crate::ops::demo::report::{DemoReport, DemoRun, Verified};
use crate::ops::demo::service::DatabaseComparison;

/// Adds to the report what was proven, and what was not.
pub(super) fn judge(report: &mut DemoReport) {
    let rows = restored_rows(&report.restored.comparison);
    let objects = intact_objects(&report.verified, report.runs.len());
    let readable = readable_objects(&report.verified);
    let growth = mean_growth(&report.runs).map(Shown::proven);
    for shown in [rows, objects, readable].into_iter().chain(growth) {
        let texts = if shown.is_proven { &mut report.proven } else { &mut report.failures };
        texts.push(shown.text);
    }
}

/// Something that the demo has proven, or has failed to prove.
struct Shown {
    is_proven: bool,
    text: String,
}

impl Shown {
    fn proven(text: String) -> Self {
        Self { is_proven: true, text }
    }
}

fn restored_rows(comparison: &DatabaseComparison) -> Shown {
    let is_proven = comparison.differences.is_empty() && comparison.rows > 0;
    let text = match comparison.differences.first() {
        None => format!(
            "{} rows in {} tables were restored, and every value is the same",
            comparison.rows, comparison.tables
        ),
        Some(first) => format!("the restored database differs: {first}"),
    };
    Shown { is_proven, text }
}

fn intact_objects(verified: &Verified, runs: usize) -> Shown {
    let is_proven = verified.damage.is_empty() && verified.snapshots == runs as u64 + 1;
    let text = verified.damage.first().cloned().unwrap_or_else(|| verified_words(verified));
    Shown { is_proven, text }
}

fn verified_words(verified: &Verified) -> String {
    format!(
        "all {} in {} objects match their digests, {} signed entries are valid, and every row of {} \
         snapshots was opened and recomputed",
        megabytes(verified.bytes_read),
        verified.objects_read,
        verified.entries,
        verified.snapshots,
    )
}

fn readable_objects(verified: &Verified) -> Shown {
    let text = match verified.readable {
        0 => "no email address of the database can be read in the store, and the key that writes backups opens no rows"
            .to_owned(),
        some => format!("{some} objects in the store contain an email address of the database in plain text"),
    };
    Shown { is_proven: verified.readable == 0, text }
}

/// How much a run after the first one added, as text.
fn mean_growth(runs: &[DemoRun]) -> Option<String> {
    let later = runs.get(1..).filter(|later| !later.is_empty())?;
    let percents: f64 = later.iter().map(|run| run.added_share * 100.0).sum();
    Some(format!(
        "each run after the first added {:.1} % of the database's size on average",
        percents / later.len() as f64
    ))
}

/// Bytes in megabytes, for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
