//! Extreme and ordinary values of every type: equal cells in both formats, equal tables after a restore.

use sidekeep::engine::postgres::value::column_type::FormatPreference;
use sidekeep::format::cell::Cell;

use crate::support::postgres::cluster::Cluster;
use crate::types::session::{Session, Ways};

/// Statements that must run first, and the first version that supports them.
const SETUP: [(u32, &str); 9] = [
    (13, "CREATE TYPE public.mood AS ENUM ('', 'sad \"x\"', '{,}', 'NULL', 'back\\slash', 'ünï')"),
    (13, "CREATE TYPE public.pair AS (a int, \"B b\" text, c numeric(10,2)[])"),
    (13, "CREATE DOMAIN public.texts AS text[]"),
    (13, "CREATE DOMAIN public.inner AS numeric(12,3) CHECK (VALUE > -100)"),
    (13, "CREATE DOMAIN public.outer AS public.inner NOT NULL"),
    (13, "CREATE DOMAIN public.mood_domain AS public.mood; CREATE DOMAIN public.pair_domain AS public.pair"),
    (13, "CREATE DOMAIN public.code AS char(4); CREATE DOMAIN public.span AS int4range"),
    (13, "CREATE TYPE public.\"odd \"\" range\" AS RANGE (subtype = float8)"),
    (13, "CREATE TYPE public.hidden_name AS ENUM ('a', 'b')"),
];

/// Types and values as the server reads them, and the first version that does.
const TABLES: &[(u32, &str, &[&str])] = &[
    (13, "bool", &["true", "false"]),
    (13, "int2", &["-32768", "32767", "0", "-1"]),
    (13, "int4", &["-2147483648", "2147483647", "0"]),
    (13, "int8", &["'-9223372036854775808'", "9223372036854775807", "0"]),
    (13, "oid", &["'4294967295'", "0", "2147483648"]),
    (13, "xid", &["'4294967295'", "'0'"]),
    (13, "cid", &["'4294967295'", "'0'"]),
    (13, "xid8", &["'18446744073709551615'", "'1'"]),
    (13, "money", &["'-92233720368547758.08'", "'92233720368547758.07'", "'0'", "'-0.01'", "'1234567.89'"]),
    (
        13,
        "float4",
        &[
            "'-0'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'1e-45'",
            "'3.4028235e38'",
            "'1.1754944e-38'",
            "0.1",
            "16777217",
        ],
    ),
    (
        13,
        "float8",
        &[
            "'-0'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'5e-324'",
            "'1.7976931348623157e308'",
            "'2.2250738585072014e-308'",
            "0.1",
            "1e15",
            "1e16",
            "123456789012345680",
        ],
    ),
    (
        13,
        "numeric",
        &[
            "0",
            "'0.000'",
            "'-0.00'",
            "'NaN'",
            "1",
            "10",
            "100",
            "10000",
            "'1.10'",
            "'-10.50'",
            "'0.0001'",
            "'0.00001'",
            "'12345678901234567890.123456789'",
            "('0.' || repeat('0', 500) || repeat('7', 500))::numeric",
            "(repeat('9', 1000) || '.' || repeat('0', 300))::numeric",
            "('1' || repeat('0', 131071))::numeric",
            "('-0.' || repeat('0', 16382) || '1')::numeric",
            "'1e131071'",
            "9999.9999",
            "100000000.00010000",
        ],
    ),
    (14, "numeric", &["'Infinity'", "'-Infinity'"]),
    (13, "numeric(20,5)", &["1.5", "'-0.00001'", "'123456789012345'"]),
    (15, "numeric(5,-3)", &["12345678", "499", "'-1500'"]),
    (15, "numeric(3,5)", &["0.00123"]),
    (
        13,
        "text",
        &[
            "''",
            "' '",
            "'\\N'",
            "'\\.'",
            "E'a\\tb\\nc\\rd\\\\e'",
            "E'\\x01\\x7f\\x08\\x0b\\x0c'",
            "'é\u{0800}\u{ffff}\u{10ffff}'",
            "'\u{feff}bom'",
            "'e\u{301}'",
            "'\u{1f468}\u{200d}\u{1f469}'",
            "repeat('x\\\\', 40000)",
            "'NULL'",
            "'\"'",
            "(SELECT string_agg(chr(p * 65536 + 65), '') FROM generate_series(0, 16) p)",
        ],
    ),
    (13, "varchar(5)", &["''", "'abcde'", "'  a  '"]),
    (13, "char(5)", &["''", "'ab'", "'abcde'", "'é'"]),
    (13, "bpchar", &["'ab   '", "''"]),
    (13, "name", &["''", "'Ünï \"q\"'", "repeat('n', 63)"]),
    (13, "\"char\"", &["''", "'x'", "'\\'", "'\t'", "(-2)::\"char\"", "(-128)::\"char\"", "127::\"char\""]),
    (13, "bytea", &["''", "'\\x00ff5c0a'", "decode(repeat('00ff', 100000), 'hex')"]),
    (
        13,
        "uuid",
        &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "gen_random_uuid()"],
    ),
    (
        13,
        "date",
        &[
            "'4714-11-24 BC'",
            "'0001-12-31 BC'",
            "'0001-01-01'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
            "'2000-02-29'",
        ],
    ),
    (13, "time", &["'00:00:00'", "'24:00:00'", "'23:59:59.999999'", "'23:59:60'", "'12:34:56.7'"]),
    (13, "time(2)", &["'12:34:56.789'"]),
    (
        13,
        "timetz",
        &["'00:00:00+15:59:59'", "'24:00:00-15:59:59'", "'12:00:00.000001+05:30'", "'23:59:60Z'", "'04:05:06-08'"],
    ),
    (
        13,
        "timestamp",
        &[
            "'4714-11-24 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'0001-12-31 23:59:59.999999 BC'",
            "'1999-12-31 23:59:60'",
            "'2000-01-01'",
        ],
    ),
    (
        13,
        "timestamptz",
        &[
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'-infinity'",
            "'2016-12-31 23:59:60+00'",
            "'1883-11-18 12:00:00 America/New_York'",
        ],
    ),
    (
        13,
        "interval",
        &[
            "'0'",
            "'1 year -2 mons 3 days -04:05:06.789'",
            "'-1 year 2 mons -3 days 04:05:06'",
            "'-00:00:00.000001'",
            "'178000000 years'",
            "'-178000000 years'",
            "'2147483647 days'",
            "'-2147483648 days'",
            "'400 hours 99 minutes'",
            "'1 mon'",
            "'-1 mon 1 sec'",
        ],
    ),
    (
        15,
        "interval",
        &[
            "'-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807'",
            "'178956970 years 7 mons 2147483647 days 2562047788:00:54.775806'",
        ],
    ),
    (17, "interval", &["'infinity'", "'-infinity'"]),
    (
        13,
        "json",
        &[
            "'{\"a\" :  1, \"a\":2}'",
            "'  [1e400, 1.10, \"\\u0000\\ud800\"]  '",
            "'null'",
            "E'{\\n\\t\"x\": \"\\\\\\\\\"}'",
        ],
    ),
    (
        13,
        "jsonb",
        &[
            "'{\"b\": 1, \"a\": 2, \"b\": 3}'",
            "('[1e1000, -0.0, 1.10, ' || repeat('9', 500) || ']')::jsonb",
            "'null'",
            "'\"x\\\\y\"'",
            "'{}'",
        ],
    ),
    (13, "jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    (13, "xml", &["'<a b=\"c\">d</a>'", "'x<y/>z'", "'<?xml version=\"1.1\" standalone=\"yes\"?><a/>'", "''"]),
    (13, "int4[]", &["'{}'", "'{1,NULL,-2147483648}'", "'[0:1][2:3]={{1,2},{3,4}}'"]),
    (13, "text[]", &["'{}'", "ARRAY['', NULL, 'NULL', 'a\"b', 'a\\b', '{', ',', ' ']", "ARRAY[E'\\n\\t']"]),
    (13, "numeric[]", &["'{1.10,NaN,-0.000}'"]),
    (13, "float8[]", &["'{-0,5e-324,NaN,0.1}'"]),
    (13, "timestamptz[]", &["'{infinity,\"2000-01-01 00:00:00+00 BC\"}'"]),
    (13, "interval[]", &["'{\"1 year -2 days\",\"-00:00:01\"}'"]),
    (13, "bytea[]", &["ARRAY['\\x00ff'::bytea, NULL]"]),
    (13, "money[]", &["'{1.00,-2.50}'"]),
    (13, "bit(5)", &["B'10101'"]),
    (13, "varbit", &["B''", "B'1'", "repeat('10', 1000)::varbit"]),
    (13, "inet", &["'1.2.3.4'", "'1.2.3.4/8'", "'::1'", "'2001:db8::/32'", "'::ffff:1.2.3.4/128'"]),
    (13, "cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    (13, "macaddr", &["'08:00:2b:01:02:03'"]),
    (13, "macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    (13, "int4range", &["'empty'", "'[1,10)'", "'(,)'", "'[,5)'"]),
    (13, "numrange", &["'(1.10,2.00]'"]),
    (13, "tstzrange", &["'[\"2000-01-01 00:00:00+00\",infinity)'"]),
    (14, "int4multirange", &["'{}'", "'{[1,3),[5,)}'"]),
    (13, "public.\"odd \"\" range\"", &["'[-0,5e-324]'"]),
    (
        13,
        "public.pair",
        &[
            "ROW(1, 'a,\"b\\c', '{1.10,NULL}')::public.pair",
            "ROW(NULL, NULL, NULL)::public.pair",
            "ROW(NULL, '', '{}')::public.pair",
        ],
    ),
    (13, "public.pair[]", &["ARRAY[ROW(1, '\"', NULL)::public.pair, NULL]"]),
    (13, "public.texts", &["'{a,NULL}'", "'{}'"]),
    (13, "public.inner", &["1.5", "'-99.999'"]),
    (13, "public.outer", &["12.345"]),
    (13, "public.inner[]", &["'{1.500}'"]),
    (13, "public.code", &["'a'"]),
    (13, "public.span", &["'[1,5)'"]),
    (13, "public.mood", &["''", "'sad \"x\"'", "'{,}'", "'NULL'", "'back\\slash'", "'ünï'"]),
    (13, "public.mood_domain", &["'NULL'"]),
    (13, "public.pair_domain", &["ROW(1, 'x', NULL)::public.pair"]),
    (13, "public.mood[]", &["'{\"\",\"NULL\",\"{,}\"}'"]),
    (13, "tsvector", &["''", "'a:1A,2B fat:3 ''q''''uo\\te'''", "to_tsvector('simple', 'The Fat Rats')"]),
    (13, "tsquery", &["'fat & (rat | !cat:ab)'", "''"]),
    (13, "point", &["'(1.5,-0)'", "'(NaN,Infinity)'"]),
    (13, "line", &["'{1,2,3}'"]),
    (13, "lseg", &["'[(0,0),(1,1)]'"]),
    (13, "box", &["'(1,1),(0,0)'"]),
    (13, "path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1.1))'"]),
    (13, "polygon", &["'((0,0),(1,1),(0,5e-324))'"]),
    (13, "circle", &["'<(0,0),0.1>'"]),
    (13, "pg_lsn", &["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
    (13, "txid_snapshot", &["'10:20:10,14,15'"]),
    (13, "pg_snapshot", &["'10:20:10,14,15'"]),
    (13, "tid", &["'(4294967295,65535)'"]),
    (13, "oidvector", &["''", "'1 2 4294967295'"]),
    (13, "int2vector", &["'1 -2'"]),
    (13, "regclass", &["'pg_catalog.pg_class'"]),
    (13, "regtype", &["'int4'"]),
    (13, "regproc", &["'pg_catalog.now'"]),
    (13, "hstore", &["''", "'a=>NULL, \"b \"=>\"\\\"\"'"]),
    (13, "citext", &["'MiXed É'", "''"]),
    (13, "ltree", &["'Top.Science'", "''"]),
    (13, "cube", &["'(1,2),(3,4.5)'"]),
    (13, "isbn13", &["'978-0-11-000533-1'"]),
];

const EXTENSIONS: [&str; 5] = ["hstore", "citext", "ltree", "cube", "isn"];

fn session(cluster: &Cluster) -> Session {
    let session = Session::open(cluster, "postgres");
    for (since, sql) in SETUP {
        if session.version >= since {
            session.sql(sql);
        }
    }
    for extension in EXTENSIONS {
        if let Err(error) = session.try_sql(&format!("CREATE EXTENSION {extension} SCHEMA pg_catalog")) {
            assert!(error.contains("not available"), "{error}");
        }
    }
    session
}

/// Describes what is wrong with this type, using the table `t`.
fn faults(session: &Session, ty: &str, values: &[&str]) -> Result<(), String> {
    session.try_sql(&format!("DROP TABLE IF EXISTS public.t, public.c; CREATE TABLE public.t (n serial, v {ty})"))?;
    for value in values {
        session.try_sql(&format!("INSERT INTO public.t (v) SELECT {value}"))?;
    }
    if !ty.contains("outer") {
        session.try_sql("INSERT INTO public.t (v) VALUES (NULL)")?;
    }
    session.try_sql("CREATE TABLE public.c (LIKE public.t)")?;
    let cells = session.read("public.t", FormatPreference::Binary)?;
    let by_text = session.read("public.t", FormatPreference::Text)?;
    for (a, b) in cells.iter().zip(&by_text) {
        if a != b {
            return Err(format!("binary {:?}, text {:?}", a[1].get(), b[1].get()));
        }
    }
    session.write("public.c", &cells)?;
    let restored = session.read("public.c", FormatPreference::Binary)?;
    if restored != cells {
        return Err("the cells of the restored table differ".to_owned());
    }
    // As bytes: before version 16 the text of a "char" may not be UTF-8.
    let shown = |table: &str| session.texts(&format!("SELECT textsend(t::text) FROM {table} t ORDER BY n"));
    if shown("public.t") != shown("public.c") {
        return Err(format!("{:?} became {:?}", shown("public.t"), shown("public.c")));
    }
    let sent = |table: &str| session.copy(&format!("SELECT * FROM {table} ORDER BY n"));
    match (sent("public.t"), sent("public.c")) {
        (Ok(a), Ok(b)) if a != b => Err("the binary form changed".to_owned()),
        (Err(error), _) if !error.contains("no binary output function") => Err(error),
        _ => Ok(()),
    }
}

#[test]
fn every_type_is_restored_from_both_formats() {
    let Some(cluster) = Cluster::start() else { return };
    let session = session(&cluster);
    let mut found = Vec::new();
    for (since, ty, values) in TABLES {
        if session.version < *since {
            continue;
        }
        if let Err(fault) = faults(&session, ty, values) {
            let fault: String = fault.chars().take(400).collect();
            // The server lacks libxml or one of the extensions.
            if !fault.contains("unsupported XML feature") && !fault.contains("does not exist") {
                found.push(format!("{ty}: {fault}"));
            } else {
                eprintln!("skipped: {ty}: {fault}");
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn values_without_a_text_form_are_sent_as_parameters() {
    let Some(cluster) = Cluster::start() else { return };
    let session = session(&cluster);
    session.sql(
        "CREATE TABLE public.t (n int, r float8, s float4, c \"char\", b bytea, m public.mood, p public.pair, d public.inner);
         ALTER TABLE public.t ALTER b SET STORAGE EXTERNAL;
         INSERT INTO public.t VALUES
            (1, 'inf'::float8 - 'inf'::float8, 'NaN', 'x', '\\x00', 'NULL', ROW(1, '\"', NULL), 1.5),
            (2, 0, 0, (-2)::\"char\", NULL, '', NULL, NULL),
            (3, 0, 0, 'y', decode(repeat('ab', 140000000), 'hex'), '', ROW(NULL, E'\\t', '{1}'), 2),
            (4, 1, 1, 'z', '', NULL, NULL, NULL);
         CREATE TABLE public.c (LIKE public.t)",
    );
    let cells = session.read("public.t", FormatPreference::Binary).expect("cells");
    let Cell::Real(nan) = cells[0][1].get() else { panic!("no real") };
    let own_nan = usize::from(nan.to_bits() != f64::NAN.to_bits());
    let high_char = usize::from(session.version < 16);
    let inserted = 1 + own_nan + high_char;
    assert_eq!(session.write("public.c", &cells), Ok(Ways { copied: 4 - inserted, inserted }));
    assert!(session.read("public.c", FormatPreference::Binary).expect("cells") == cells);
    let sum = "SELECT count(*)::text FROM public.t JOIN public.c USING (n) WHERE float8send(t.r) = float8send(c.r) \
               AND t.b IS NOT DISTINCT FROM c.b AND t.p::text IS NOT DISTINCT FROM c.p::text AND t.c = c.c";
    assert_eq!(session.texts(sum), [[Some("4".to_owned())]]);
}

#[test]
fn tables_without_columns_and_with_many_columns_are_restored() {
    let Some(cluster) = Cluster::start() else { return };
    let session = session(&cluster);
    session.sql("CREATE TABLE public.none (); INSERT INTO public.none DEFAULT VALUES");
    session.sql("INSERT INTO public.none DEFAULT VALUES; CREATE TABLE public.none_too ()");
    let sent = session.copy("SELECT FROM public.none").expect("a copy");
    assert_eq!(sent.len(), 19 + 2 * 2 + 2);
    let columns: Vec<String> = (0..1600).map(|at| format!("c{at} {}", ["bool", "int4", "text"][at % 3])).collect();
    session.sql(&format!("CREATE TABLE public.wide ({})", columns.join(", ")));
    session
        .sql("INSERT INTO public.wide (c0, c1, c1598) VALUES (true, 7, '8'); CREATE TABLE public.w (LIKE public.wide)");
    let cells = session.read("public.wide", FormatPreference::Binary).expect("cells");
    assert_eq!(cells, session.read("public.wide", FormatPreference::Text).expect("cells"));
    session.write("public.w", &cells).expect("written");
    assert_eq!(session.read("public.w", FormatPreference::Binary).expect("cells"), cells);
}
