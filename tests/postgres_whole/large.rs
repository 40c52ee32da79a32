//! Values and rows as large as a server sends. They need some gigabytes of memory and of disk, and are run by
//! `scripts/test --all`.

use sidekeep::format::cell::Cell;

use crate::live::Live;
use crate::restored::build;

/// A server appends some bytes to a value that it sends, and fails beyond 2^30 - 1.
const LARGEST: usize = (1 << 30) - 100;

#[test]
#[ignore = "needs several gigabytes of memory and of disk"]
fn a_value_of_a_gigabyte_and_a_row_of_several() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("large", "TEMPLATE template0");
    live.cluster.sql(
        "large",
        &format!(
            "CREATE TABLE t (n int PRIMARY KEY, a bytea, b bytea, c text); ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
            INSERT INTO t SELECT 1, substr(string_agg(part, ''), 1, {LARGEST})
                FROM (SELECT decode(repeat('ab', 109000000), 'hex') FROM generate_series(1, 10)) AS parts(part);
            INSERT INTO t SELECT 2, decode(repeat('01', 400000000), 'hex'), decode(repeat('02', 300000000), 'hex'),
                repeat('x', 370000000)"
        ),
    );
    let taken = live.taken("large");
    let rows = &taken.table("public.t").rows;
    let row = |n| rows.iter().find(|row| row[0].get() == Cell::Integer(n)).expect("a row");
    assert!(
        matches!(row(1)[1].get(), Cell::Bytes(bytes) if bytes.len() == LARGEST && bytes.iter().all(|b| *b == 0xab))
    );
    assert!(matches!(row(2)[3].get(), Cell::Text(text) if text.len() == 370_000_000));
    build(&live.cluster, &taken, "large back");
    let sums = "SELECT n, md5(a), length(a), md5(b), md5(c) FROM t ORDER BY n";
    assert_eq!(live.cluster.sql("large", sums), live.cluster.sql("large back", sums));
}
