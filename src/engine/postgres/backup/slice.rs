//! Slices of a table that several sessions read at the same time: its relations, and of large ones ranges of pages.
//!
//! Within one image a row stays where it is, so ranges of `ctid` neither miss a row nor have one twice. Servers before
//! 14 would scan the whole table for each range (PostgreSQL 14 release notes, TID range scans), and what is not a heap
//! need not have pages in an order.

use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
use crate::engine::postgres::schema::table::TablePart;

/// The first server that reads ranges of pages.
const RANGES_SINCE: i32 = 140_000;
/// Pages of a slice: 16 MB. Values that lie outside of their rows come on top.
const SLICE_PAGES: u64 = 2048;

/// What one session reads in one go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slice {
    /// Quoted for SQL.
    pub(crate) sql_name: String,
    /// As SQL after WHERE.
    pub(crate) range: Option<String>,
    pub(crate) order: RowOrder,
}

/// In which order a server gives rows that it is to give in none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowOrder {
    /// As they lie: nobody else's scan is joined, and none works beside.
    ByCtid,
    Unknown,
}

/// The slices of a table with these parts on a server of this version. Together they are every row once.
pub(crate) fn slices(parts: &[TablePart], version: i32, options: &ReadOptions) -> Vec<Slice> {
    let divides = options.gentle == Gentle::No && options.sessions.get() > 1 && version >= RANGES_SINCE;
    let of_part = |part: &TablePart| {
        let order = if part.access_method == "heap" { RowOrder::ByCtid } else { RowOrder::Unknown };
        let slice = |range| Slice { sql_name: part.sql_name.clone(), range, order };
        if !divides || order == RowOrder::Unknown || part.pages < 2 * SLICE_PAGES {
            return vec![slice(None)];
        }
        let count = part.pages / SLICE_PAGES;
        let range = |at| {
            let from = format!("ctid >= '({},0)'::pg_catalog.tid", at * SLICE_PAGES);
            match at + 1 {
                // The table may have more pages than anybody knew.
                next if next == count => from,
                next => format!("{from} AND ctid < '({},0)'::pg_catalog.tid", next * SLICE_PAGES),
            }
        };
        (0..count).map(|at| slice(Some(range(at)))).collect()
    };
    parts.iter().flat_map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{SLICE_PAGES, slices};
    use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
    use crate::engine::postgres::schema::table::TablePart;

    fn part(pages: u64, access_method: &str) -> TablePart {
        let (name, sql_name) = ("public.t".to_owned(), "\"public\".\"t\"".to_owned());
        TablePart { oid: 1, name, sql_name, access_method: access_method.to_owned(), pages }
    }

    fn options(sessions: usize, gentle: Gentle) -> ReadOptions {
        let sessions = NonZeroUsize::new(sessions).expect("not zero");
        ReadOptions { sessions, gentle, ..ReadOptions::default() }
    }

    #[test]
    fn ranges_touch_and_the_last_has_no_end() {
        let found = slices(&[part(SLICE_PAGES * 3 + 5, "heap")], 150_000, &options(2, Gentle::No));
        let ranges: Vec<String> = found.into_iter().filter_map(|slice| slice.range).collect();
        let expected = [
            "ctid >= '(0,0)'::pg_catalog.tid AND ctid < '(2048,0)'::pg_catalog.tid",
            "ctid >= '(2048,0)'::pg_catalog.tid AND ctid < '(4096,0)'::pg_catalog.tid",
            "ctid >= '(4096,0)'::pg_catalog.tid",
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn one_slice_where_ranges_help_nobody() {
        let large = || [part(SLICE_PAGES * 100, "heap")];
        for (parts, version, options) in [
            (large(), 130_000, options(4, Gentle::No)),
            (large(), 150_000, options(4, Gentle::Yes)),
            (large(), 150_000, options(1, Gentle::No)),
            ([part(SLICE_PAGES * 100, "columnar")], 150_000, options(4, Gentle::No)),
            ([part(SLICE_PAGES, "heap")], 150_000, options(4, Gentle::No)),
        ] {
            let found = slices(&parts, version, &options);
            assert!(matches!(found.as_slice(), [one] if one.range.is_none()), "{found:?}");
        }
    }
}
