//! Names and encodings: a snapshot contains every byte of every name that a server accepts, or has a gap for the
//! object.

use crate::support::world::findings::FindingsByKind;
use sidekeep::format::cell::Cell;

use crate::support::postgres::cluster::SUPERUSER;
use crate::support::postgres::live::{Live, reason_of};
use crate::support::postgres::restored::assert_comes_back;

/// Padded to 63 bytes, the longest name that a server keeps.
const LONGEST: &str = "ключ-длиной-63 байта 🦀 \"q";

#[test]
fn quoted_and_unicode_names_are_restored() {
    let Some(live) = Live::start() else { return };
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let padded = |at: usize| format!("{LONGEST}{}", "x".repeat(63 - LONGEST.len() - 1)) + &at.to_string();
    let name = |at: usize| quote(&padded(at));
    assert_eq!(padded(1).len(), 63);
    live.cluster.create_database("names \"; %", "TEMPLATE template0");
    live.cluster.sql(
        "names \"; %",
        &format!(
            "CREATE ROLE {r} LOGIN; CREATE SCHEMA {s} AUTHORIZATION {r}; CREATE TYPE {s}.{t} AS ENUM ({l}, '');
            CREATE DOMAIN {s}.{d} AS {s}.{t}[]; CREATE TYPE {s}.{p} AS ({c} {s}.{d}, b text);
            CREATE TABLE {s}.{a} ({c} int PRIMARY KEY, {k} {s}.{t}, {l2} {s}.{d}, {m} {s}.{p}, \" row\" text, \"id\" int);
            CREATE TABLE {s}.{b} ({c} int REFERENCES {s}.{a} ON DELETE CASCADE, {k} {s}.{p}[]) PARTITION BY LIST ({c});
            CREATE TABLE {s}.{e} PARTITION OF {s}.{b} DEFAULT;
            INSERT INTO {s}.{a} VALUES (1, {l}, ARRAY['', {l}]::{s}.{t}[], ROW(NULL, '\t')::{s}.{p}), (2, '', '{{}}', NULL);
            INSERT INTO {s}.{b} VALUES (1, ARRAY[ROW(ARRAY[NULL, {l}]::{s}.{t}[], '\"')::{s}.{p}, NULL]);
            CREATE TABLE \"a.b\".\"c\" (); CREATE TABLE a.\"b.c\" ()",
            r = name(0),
            s = name(1),
            t = name(2),
            l = format!("'{}'", padded(3)),
            d = name(4),
            p = name(5),
            c = name(6),
            a = name(7),
            k = name(8),
            l2 = name(9),
            m = quote("m"),
            b = quote("%I $1 \\ '; --"),
            e = quote("\n"),
        )
        .replace("CREATE TABLE \"a.b\"", "CREATE SCHEMA a; CREATE SCHEMA \"a.b\"; CREATE TABLE \"a.b\""),
    );
    let taken = live.taken("names \"; %");
    assert_comes_back(&live.cluster, &taken, "names \"; %");
}

#[test]
fn a_latin1_database_with_latin1_names_is_restored() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("latin", "ENCODING 'LATIN1' TEMPLATE template0");
    live.cluster.sql(
        "latin",
        "CREATE SCHEMA straße; CREATE TYPE straße.größe AS ENUM ('weiß', 'ÿ'); CREATE DOMAIN straße.maß AS straße.größe[];
        CREATE TABLE straße.häuser (größe straße.größe PRIMARY KEY, maß straße.maß, text text, p point);
        INSERT INTO straße.häuser VALUES ('weiß', '{ÿ,NULL}', 'äöü€'::text, '(1,2)')"
            .replace('€', "¤")
            .as_str(),
    );
    let taken = live.taken("latin");
    assert_eq!(taken.tables[0].name, "\"straße\".\"häuser\"");
    assert_comes_back(&live.cluster, &taken, "latin");
}

/// Bytes that are not UTF-8, in a database without an encoding.
#[test]
fn a_database_without_an_encoding_is_restored() {
    let Some(mut live) = Live::start() else { return };
    live.cluster.create_database("ascii", "ENCODING 'SQL_ASCII' TEMPLATE template0");
    live.cluster.sql(
        "ascii",
        "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (n int PRIMARY KEY, v text, m mood, j json, a text[]);
        INSERT INTO t SELECT i, chr(i), 'a', to_json(chr(i)), ARRAY[chr(i)] FROM generate_series(1, 255) i",
    );
    let taken = live.taken("ascii");
    assert_eq!(taken.tables[0].rows.len(), 255);
    assert_comes_back(&live.cluster, &taken, "ascii");

    // The same in names. Objects whose names our client cannot handle are gaps, and everything else is captured.
    live.forget();
    let execute = |live: &Live, sql: &str| {
        live.cluster.sql("ascii", &format!("DO $x$ BEGIN EXECUTE convert_from('{sql}'::bytea, 'SQL_ASCII'); END $x$"))
    };
    execute(&live, "ALTER TYPE mood ADD VALUE ''caf\\351''");
    live.cluster.sql("ascii", "INSERT INTO t SELECT 300, 'x', (enum_range(NULL::mood))[3]");
    let taken = live.taken("ascii");
    let last = taken.table("public.t").rows.iter().find(|row| row[0].get() == Cell::Integer(300)).expect("a row");
    assert!(matches!(last[2].get(), Cell::Encoded(_, b"caf\xe9")), "{:?}", last[2].get());

    live.forget();
    execute(&live, "CREATE TABLE caf\\351 (n int); INSERT INTO caf\\351 VALUES (1)");
    execute(&live, "CREATE TABLE u (n int, \"\\351\" text); INSERT INTO u VALUES (1)");
    execute(
        &live,
        "CREATE TYPE \"\\351\" AS ENUM (''a''); CREATE TABLE v (n int, e \"\\351\"); INSERT INTO v VALUES (1)",
    );
    live.cluster.sql("ascii", "CREATE TABLE w (n int); INSERT INTO w VALUES (5)");
    let report = live.try_backup_as("ascii", SUPERUSER).expect("a snapshot");
    for object in ["public.\"caf?\"", "public.u", "public.v"] {
        assert!(reason_of(&report.gaps(), object).contains("not UTF-8"), "{object}");
    }
    let taken = live.restored();
    assert_eq!(taken.table("public.w").integers("n"), [5]);
    assert_eq!(taken.table("public.t").rows.len(), 256);

    // The role may not read some of them.
    live.forget();
    execute(&live, "CREATE SEQUENCE \"s\\351\"");
    live.cluster.sql("ascii", "CREATE ROLE reader LOGIN; GRANT SELECT ON t, u, v, w TO reader");
    let report = live.try_backup_as("ascii", "reader").expect("a snapshot");
    for object in ["public.\"s?\"", "public.\"caf?\""] {
        assert!(reason_of(&report.gaps(), object).contains("may not read"), "{object}");
    }
    assert_eq!(live.restored().table("public.w").integers("n"), [5]);
}

#[test]
fn icu_and_nondeterministic_collations_are_restored() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("collations", "TEMPLATE template0");
    live.cluster.sql(
        "collations",
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
        CREATE DOMAIN folded_text AS text COLLATE folded;
        CREATE TABLE users (name text COLLATE folded PRIMARY KEY, german text COLLATE german UNIQUE, d folded_text);
        CREATE TABLE posts (owner text COLLATE folded REFERENCES users ON UPDATE CASCADE, n int);
        INSERT INTO users VALUES ('Ann', 'Äpfel', 'x'), ('BOB', 'Apfel', 'X'), ('b', 'a', NULL);
        INSERT INTO posts VALUES ('ANN', 1), ('ann', 2), ('bob', 3), (NULL, 4)",
    );
    let taken = live.taken("collations");
    assert_comes_back(&live.cluster, &taken, "collations");
}
