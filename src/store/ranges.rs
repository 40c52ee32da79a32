//! Plans the requests for many ranges of one object: neighbours with a small gap between them share one. The gap is
//! roughly what a request costs in time on a fast link. With `object_store`'s own gap of 1 MiB, reading one user's
//! frames would read most of a pack. Pure: no I/O.

use std::ops::Range;

use bytes::Bytes;

/// Unwanted bytes that are cheaper to read than another request.
pub(crate) const GAP_BYTES_MAX: u64 = 32 << 10;

/// The runs to read for `wanted`: in order, more than `gap` apart, and covering every non-empty range.
pub(crate) fn runs(wanted: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut runs = Vec::new();
    for range in sorted(wanted) {
        add(&mut runs, range, gap);
    }
    runs
}

fn sorted(wanted: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = wanted.to_vec();
    sorted.retain(|range| !range.is_empty());
    sorted.sort_unstable_by_key(|range| range.start);
    sorted
}

/// Extends the last of `runs` by `range`, or appends `range` if it is further away than `gap`.
fn add(runs: &mut Vec<Range<u64>>, range: Range<u64>, gap: u64) {
    match runs.last_mut() {
        Some(run) if range.start <= run.end.saturating_add(gap) => run.end = run.end.max(range.end),
        _ => runs.push(range),
    }
}

/// The bytes of `range`, from the runs that [`runs`] planned and the bytes read for each.
pub(crate) fn cut(range: &Range<u64>, runs: &[Range<u64>], read: &[Bytes]) -> Bytes {
    if range.is_empty() {
        return Bytes::new();
    }
    let at = run_of(range, runs);
    read[at].slice(within(range, &runs[at]))
}

/// The position of the run that contains `range`.
fn run_of(range: &Range<u64>, runs: &[Range<u64>]) -> usize {
    runs.partition_point(|run| run.start <= range.start) - 1
}

/// `range` relative to the start of `run`.
fn within(range: &Range<u64>, run: &Range<u64>) -> Range<usize> {
    offset(range.start, run)..offset(range.end, run)
}

fn offset(position: u64, run: &Range<u64>) -> usize {
    usize::try_from(position - run.start).expect("a run fits in memory")
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{cut, runs};

    #[test]
    fn neighbours_share_a_request() {
        assert_eq!(runs(&[10..20, 25..30, 41..50, 0..0], 10), [10..30, 41..50]);
        assert_eq!(runs(&[5..6, 0..9, 2..3], 0), [Range { start: 0, end: 9 }]);
        assert!(runs(&[], 10).is_empty());
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn every_range_gets_exactly_its_bytes(
            wanted in proptest::collection::vec((0u64..2000, 0u64..200), 0..30),
            gap in 0u64..100,
        ) {
            let object: Vec<u8> = (0..2200u32).map(|at| (at % 251) as u8).collect();
            let wanted: Vec<_> = wanted.iter().map(|(start, len)| *start..start + len).collect();
            let runs = runs(&wanted, gap);
            let part = |range: &Range<u64>| Bytes::copy_from_slice(&object[range.start as usize..range.end as usize]);
            let read: Vec<_> = runs.iter().map(part).collect();
            for range in &wanted {
                prop_assert_eq!(cut(range, &runs, &read), part(range));
            }
            for pair in runs.windows(2) {
                prop_assert!(pair[0].end + gap < pair[1].start);
            }
        }
    }
}
