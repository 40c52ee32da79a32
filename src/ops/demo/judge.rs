//! What a demo has shown, or has failed to show.

use crate::ops::demo::report::{DemoReport, NightlyRun, Verified};
use crate::ops::demo::service::DatabaseComparison;

/// Says what was shown, or what was not.
pub(super) fn judge(report: &mut DemoReport) {
    let rows = restored_rows(&report.restored.comparison);
    let objects = intact_objects(&report.verified, report.nights.len());
    let readable = readable_objects(&report.verified);
    let growth = mean_growth(&report.nights).map(Shown::proven);
    for shown in [rows, objects, readable].into_iter().chain(growth) {
        let texts = if shown.is_proven { &mut report.proven } else { &mut report.failures };
        texts.push(shown.text);
    }
}

/// Something that the demo shows, or fails to show.
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
        None => format!("{} rows in {} tables came back, every value as it was", comparison.rows, comparison.tables),
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
        "every byte of {} in {} objects is what its digest says, {} signed entries hold, and every row of {} \
         snapshots was opened and computed again",
        megabytes(verified.bytes_read),
        verified.objects_read,
        verified.entries,
        verified.snapshots,
    )
}

fn readable_objects(verified: &Verified) -> Shown {
    let text = match verified.readable {
        0 => "no address of the database can be read anywhere in the store, and the key that writes it opens no row"
            .to_owned(),
        some => format!("{some} objects in the store show an address of the database in clear"),
    };
    Shown { is_proven: verified.readable == 0, text }
}

/// How much a night after the first added, in words.
fn mean_growth(runs: &[NightlyRun]) -> Option<String> {
    let later = runs.get(1..).filter(|later| !later.is_empty())?;
    let percents: f64 = later.iter().map(|run| run.added_share * 100.0).sum();
    Some(format!("a night added {:.1} % of the database's size in the mean", percents / later.len() as f64))
}

/// Bytes in megabytes, for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
