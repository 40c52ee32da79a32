//! Values are written in each of the formats, and large objects have holes.

use std::collections::BTreeMap;

use sidekeep::engine::contract::{
    Batch, BatchTarget, Engine, EngineError, Mark, RestoreContent, Scope, Source, Target, TargetColumn, TargetTable,
};
use sidekeep::engine::postgres::restore::TargetOptions;
use sidekeep::format::cell::Cell;

use crate::support::postgres::cluster::SUPERUSER;
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{Stage, refused};

const VALUES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'o;k \"x\"');
    CREATE DOMAIN cents AS numeric(12,2) CHECK (VALUE > -100);
    CREATE TABLE binary_all (n int PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, o oid, m money, r float4, d float8, num numeric,
        c cents, t text, v varchar(5), ch char(5), nm name, c1 \"char\", by bytea, u uuid, da date, ti time, tz timetz, ts timestamp,
        tsz timestamptz, iv interval, js json, jb jsonb, md mood);
    INSERT INTO binary_all VALUES
        (1, true, -32768, -2147483648, '-9223372036854775808', '4294967295', '-92233720368547758.08', '-0', 'NaN', 'NaN', -99.99,
         E'\\\\N\\t\\n\\\\.', 'abcde', 'ab', 'Ünï', 'x', '\\x00ff5c0a', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '4714-11-24 BC', '24:00:00',
         '00:00:00+15:59:59', '294276-12-31 23:59:59.999999', 'infinity', '1 year -2 mons 3 days -04:05:06.789', ' {\"a\" :  1, \"a\":2}', '{\"b\":[1e100, -0.0]}', 'o;k \"x\"'),
        (2, false, 32767, 2147483647, 9223372036854775807, 0, '92233720368547758.07', '3.4028235e38', '5e-324', '-0.00', 1, '', '', '', '', '', '',
         '00000000-0000-0000-0000-000000000000', 'infinity', '00:00', '24:00:00-15:59:59', '-infinity', '4714-11-24 00:00:00+00 BC', '-178000000 years', 'null', 'null', 'sad'),
        (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, true, 0, 0, 0, 0, 0, 'Infinity', '-Infinity', ('1' || repeat('0', 131071))::numeric, 10.50, repeat('ж', 40000), 'é', 'é', 'n', (-2)::\"char\", decode(repeat('00ff', 100000), 'hex'),
         gen_random_uuid(), '0001-12-31 BC', '23:59:59.999999', '12:00:00.000001+05:30', '0001-12-31 23:59:59.999999 BC', '2016-12-31 23:59:60+00', '0', '[]', '{}', 'sad'),
        (5, true, 0, 0, 0, 0, 0, 'NaN', '-0', ('-0.' || repeat('0', 16382) || '1')::numeric, 0.01, repeat('x', 33000), 'v', 'v', 'v', 'v', '\\x5c', gen_random_uuid(), '2000-02-29', '12:34', '04:05:06-08', '2000-01-01', '2000-01-01 00:00Z', '400 hours 99 minutes', '1', '1', 'sad'),
        (6, true, 0, 0, 0, 0, 0, 0, 'inf'::float8 - 'inf'::float8, 9999.9999, 5, 'x', 'x', 'x', 'x', 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2147483647 days', NULL, NULL, NULL);
    CREATE TABLE by_text (n int, a int[], t text, p point, r int4range, ip inet, bits varbit, x tsvector, d float8, \"char\" \"char\", by bytea, b bit(5));
    INSERT INTO by_text VALUES (1, '{1,NULL}', E'\\\\N\\t', '(1.5,-0)', '[1,5)', '1.2.3.4/8', B'1', 'a:1', 'inf'::float8 - 'inf'::float8, (-2)::\"char\", '\\x00ff', B'10101'),
        (2, '[0:1][2:3]={{1,2},{3,4}}', '\\.', NULL, 'empty', '::1', B'', '', '-0', '', decode(repeat('ab', 500000), 'hex'), NULL);
    CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (id * 2) STORED, d float8, tags text[]);
    INSERT INTO always (d, tags) SELECT CASE n WHEN 3 THEN 'inf'::float8 - 'inf'::float8 END, ARRAY[n::text] FROM generate_series(1, 5) AS n;
    DELETE FROM always WHERE id = 2;
    CREATE TABLE parted (k text, v text, big bytea) PARTITION BY LIST (k);
    CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
    CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY HASH (v);
    CREATE TABLE parted_rest_0 PARTITION OF parted_rest FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    INSERT INTO parted SELECT chr(97 + n % 3), n::text, decode(repeat('0a', n * 100), 'hex') FROM generate_series(1, 900) AS n;
    CREATE TABLE large_values (n int, b bytea);
    INSERT INTO large_values SELECT n, decode(repeat(md5(n::text), 18750), 'hex') FROM generate_series(1, 62) AS n;
    CREATE TABLE many (n bigint PRIMARY KEY, t text);
    INSERT INTO many SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 30000) AS n;
";

#[test]
fn values_are_restored_bit_by_bit() {
    let Some(stage) = Stage::of(VALUES) else { return };
    let report = stage.restored("copy", TargetOptions { workers: 3, ..TargetOptions::default() });
    assert_eq!(refused(&report), [""; 0]);
    assert_same((&stage.cluster, "service"), (&stage.cluster, "copy"));
    let bits = "SELECT n, float8send(d), float4send(r), b, octet_length(nm::text) FROM binary_all ORDER BY n";
    assert_eq!(stage.cluster.sql("service", bits), stage.cluster.sql("copy", bits));
    let bits = "SELECT float8send(d), charsend(\"char\") FROM by_text ORDER BY n; SELECT id, twice, float8send(d), tags FROM always ORDER BY id";
    assert_eq!(stage.cluster.sql("service", bits), stage.cluster.sql("copy", bits));
}

const LARGE: &str = "
    SELECT lo_create(1000), lo_from_bytea(1001, decode(repeat('ab', 5000), 'hex'));
    SELECT lo_create(1002), lo_put(1002, 0, 'begin'), lo_put(1002, 2048 * 700 + 100, 'end');
    SELECT lo_create(1003), lo_put(1003, 2048::bigint * 1048575, 'far');
    SELECT lo_create(2000 + n) FROM generate_series(1, 450) AS n;
    DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lo_owner') THEN CREATE ROLE lo_owner; CREATE ROLE lo_reader; END IF; END $$;
    ALTER LARGE OBJECT 1001 OWNER TO lo_owner;
    GRANT SELECT ON LARGE OBJECT 1001 TO lo_reader WITH GRANT OPTION;
    GRANT SELECT ON LARGE OBJECT 1002 TO PUBLIC;
    ALTER LARGE OBJECT 1003 OWNER TO lo_owner;
    REVOKE UPDATE ON LARGE OBJECT 1003 FROM lo_owner;
    COMMENT ON LARGE OBJECT 1002 IS 'with a ''hole''\\';
";

/// Pages of large objects, as a snapshot contains them.
struct Pages(Vec<(i64, i64, Vec<u8>)>);

impl Batch for Pages {
    fn table(&self) -> usize {
        0
    }
    fn marks(&self) -> &[Mark] {
        &[[7; 16]]
    }
    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), EngineError>) -> Result<(), EngineError> {
        self.0.iter().try_for_each(|(object, page, data)| {
            each(&[Cell::Integer(*object), Cell::Integer(*page), Cell::Bytes(data)])
        })
    }
}

#[test]
fn large_objects_keep_their_holes() {
    let Some(stage) = Stage::of(LARGE) else { return };
    let mut source = stage.cluster.source("service", SUPERUSER);
    let schema = source.describe().expect("a description").schema;
    source.release().expect("released");
    let stored = "SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2";
    let number = |value: &Option<String>| value.as_ref().expect("a number").parse::<i64>().expect("a number");
    let bytes = |value: &Option<String>| {
        data_encoding::HEXLOWER.decode(&value.as_ref().expect("bytes").as_bytes()[2..]).expect("hex")
    };
    let rows = stage.cluster.sql("service", stored);
    let pages = Pages(rows.iter().map(|row| (number(&row[0]), number(&row[1]), bytes(&row[2]))).collect());
    assert!(pages.0.len() > 5 && pages.0.iter().any(|(_, page, _)| *page == 1_048_575));

    stage.cluster.create_database("copy", "TEMPLATE template0");
    let column = |name: &str| TargetColumn { name: name.into(), hidden: false };
    let columns = ["loid", "pageno", "data"].map(column).to_vec();
    let tables = [TargetTable { name: "pg_catalog.pg_largeobject".to_owned(), columns, key: vec![0, 1] }];
    let mut target = stage.target(&stage.cluster, "copy", TargetOptions::default());
    let (engine, scope) = (Engine::Postgres, Scope::Everything);
    let large_object_page = Some(2048);
    let content = RestoreContent { engine, snapshot: "s", schema: &schema, tables: &tables, large_object_page, scope };
    target.begin(&content).expect("begins");
    let mut loaders = target.loaders().expect("loaders");
    assert_eq!(loaders[0].load(&pages).expect("loads"), pages.0.len() as u64);
    drop(loaders);
    assert_eq!(target.finish().expect("ends"), []);
    assert_eq!(stage.cluster.sql("copy", stored), rows);
    let facts = |database: &str| -> BTreeMap<String, String> {
        crate::support::postgres::compare::image(&stage.cluster, database).facts
    };
    assert_eq!(facts("copy"), facts("service"));
}

#[test]
fn databases_with_other_encodings_are_restored() {
    let sql = "CREATE TABLE t (a text DEFAULT E'\\351', b \"char\"); COMMENT ON TABLE t IS E'caf\\351; x';
        INSERT INTO t VALUES (E'caf\\351\\t', 'x'), (DEFAULT, NULL), (repeat(E'\\351', 40000), 'y')";
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let Some(stage) = Stage::encoded(encoding, sql) else { return };
        stage.cluster.create_database("copy", &format!("TEMPLATE template0 ENCODING '{encoding}'"));
        let report = stage.restore(&mut stage.target(&stage.cluster, "copy", TargetOptions::default()), &[]);
        assert_eq!(refused(&report.expect("a restore")), [""; 0], "{encoding}");
        assert_same((&stage.cluster, "service"), (&stage.cluster, "copy"));
        if encoding == "LATIN1" {
            stage.cluster.create_database("other", "TEMPLATE template0 ENCODING 'UTF8'");
            let report = stage.restore(&mut stage.target(&stage.cluster, "other", TargetOptions::default()), &[]);
            let lines = refused(&report.expect("a restore"));
            assert_eq!(lines, ["database other: its encoding is UTF8, but LATIN1 in the snapshot"]);
            let texts = "SELECT a, length(a) FROM t ORDER BY length(a)";
            assert_eq!(stage.cluster.sql("other", texts), stage.cluster.sql("service", texts));
        }
    }
}
