//! Values and rows as large as a server can send. These tests need several gigabytes of memory and disk space, and run
//! with `scripts/test --all`.

use sidekeep::format::cell::Cell;

use crate::support::postgres::live::Live;
use crate::support::postgres::restored::build;

/// A server adds a few bytes to a value that it sends, and fails above 2^30 - 1 bytes.
const LARGEST: usize = (1 << 30) - 100;

#[test]
#[ignore = "needs several gigabytes of memory and disk space"]
fn a_value_of_1_gb_and_a_longer_row_are_restored() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("large", "TEMPLATE template0");
    live.cluster.sql(
        "large",
        &format!(
            "CREATE TABLE t (n int PRIMARY KEY, a bytea, b bytea, c text); ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
            INSERT INTO t SELECT 1, string_agg(part, '') || decode(repeat('ab', {rest}), 'hex')
                FROM (SELECT decode(repeat('ab', 100000000), 'hex') FROM generate_series(1, 10)) AS parts(part);
            INSERT INTO t SELECT 2, decode(repeat('01', 400000000), 'hex'), decode(repeat('02', 300000000), 'hex'),
                repeat('x', 370000000)",
            rest = LARGEST - 1_000_000_000
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

/// No client, not even `pg_dump`, can read such a row in one message, so it is read column by column. A server does not
/// accept one in one message either, so the row is not restored to a server here.
#[test]
#[ignore = "needs several gigabytes of memory and disk space"]
fn a_row_of_more_than_1_gb_is_captured() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("large", "TEMPLATE template0");
    live.cluster.sql(
        "large",
        "CREATE EXTENSION citext; CREATE TABLE users (name citext PRIMARY KEY); INSERT INTO users VALUES ('Ann');
        CREATE TABLE t (n int, a bytea, b bytea, c date, owner citext DEFAULT 'ANN' REFERENCES users);
        ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
        INSERT INTO t (n) VALUES (1), (2), (3), (4), (5); UPDATE t SET c = '2026-01-01';
        UPDATE t SET a = decode(repeat('01', 500000000), 'hex') WHERE n IN (2, 5);
        UPDATE t SET b = a, a = a || decode(repeat('02', 100000000), 'hex') WHERE n IN (2, 5);
        INSERT INTO t SELECT 6",
    );
    let taken = live.taken("large");
    let rows = &taken.table("public.t").rows;
    let mut numbers = taken.table("public.t").integers("n");
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let row = |n| rows.iter().find(|row| row[0].get() == Cell::Integer(n)).expect("a row");
    for long in [2, 5].map(row) {
        let (Cell::Bytes(a), Cell::Bytes(b)) = (long[1].get(), long[2].get()) else { panic!("no bytes") };
        assert!(a.len() == 600_000_000 && b.len() == 500_000_000 && a[..b.len()] == *b && a[a.len() - 1] == 2);
        assert_eq!(long[3].get(), row(1)[3].get());
    }
    assert_eq!(live.counts()["public.t"], (6, 0, 0, 1));
}
