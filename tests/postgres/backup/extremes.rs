//! Tables of extreme shapes, and tables on a standby.

use crate::support::postgres::live::Live;
use crate::support::postgres::restored::assert_comes_back;
use crate::support::world::findings::FindingsByKind;

#[test]
fn tables_of_every_shape_are_restored() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("shapes", "TEMPLATE template0");
    let columns =
        |types: [&str; 3]| (0..1600).map(|at| format!("c{at} {}", types[at % 3])).collect::<Vec<_>>().join(", ");
    live.cluster.sql(
        "shapes",
        &format!(
            "CREATE TABLE wide ({}); INSERT INTO wide (c0, c2, c1599) VALUES (true, 'x', true), (NULL, NULL, false);
            INSERT INTO wide (c1) SELECT n FROM generate_series(1, 20) AS n;
            CREATE TABLE none (); INSERT INTO none DEFAULT VALUES; INSERT INTO none DEFAULT VALUES;
            INSERT INTO none DEFAULT VALUES; CREATE TABLE empty_none ();
            CREATE TABLE all_generated (a int GENERATED ALWAYS AS (1) STORED);
            INSERT INTO all_generated DEFAULT VALUES; INSERT INTO all_generated DEFAULT VALUES;
            CREATE TABLE all_dropped (a int); INSERT INTO all_dropped VALUES (1), (2); ALTER TABLE all_dropped DROP COLUMN a;
            CREATE TABLE dropped (a int, b text, c int); INSERT INTO dropped SELECT n, 'b', n FROM generate_series(1, 9) n;
            ALTER TABLE dropped DROP COLUMN a, ADD COLUMN a text DEFAULT 'again'; INSERT INTO dropped VALUES ('x', 1, 'y');
            ALTER TABLE dropped DROP COLUMN b, ADD COLUMN d int[] DEFAULT '{{1,NULL}}', ADD COLUMN e int NOT NULL DEFAULT 7;
            CREATE TABLE twice (a int, b text); INSERT INTO twice SELECT n % 3, 'same' FROM generate_series(1, 1000) AS n;
            CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); INSERT INTO unlogged VALUES (1), (2);
            CREATE TABLE self (id int PRIMARY KEY, up int REFERENCES self, friend int);
            ALTER TABLE self ADD FOREIGN KEY (friend) REFERENCES self DEFERRABLE INITIALLY DEFERRED;
            INSERT INTO self VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 3);
            CREATE TABLE hen (id int PRIMARY KEY, egg int); CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen);
            ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE;
            INSERT INTO hen VALUES (1, NULL); INSERT INTO egg VALUES (1, 1); UPDATE hen SET egg = 1;
            CREATE TABLE checked (a int); INSERT INTO checked VALUES (-1);
            ALTER TABLE checked ADD CONSTRAINT positive CHECK (a > 0) NOT VALID;
            CREATE TABLE raised (a int); INSERT INTO raised VALUES (1);
            CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $x$ BEGIN RAISE EXCEPTION 'never'; END $x$;
            CREATE TRIGGER never BEFORE INSERT ON raised FOR EACH ROW EXECUTE FUNCTION never();
            ALTER TABLE raised ENABLE ALWAYS TRIGGER never;
            CREATE TABLE period (during tstzrange, room int, EXCLUDE USING gist (during WITH &&));
            INSERT INTO period VALUES ('[2026-01-01,2026-01-02)', 1), ('[2026-01-02,2026-01-03)', 1);
            CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM twice;
            CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS n WITH NO DATA",
            columns(["bool", "int", "text"]),
        ),
    );
    let taken = live.taken("shapes");
    assert_comes_back(&live.cluster, &taken, "shapes");
}

#[test]
fn a_standby_can_be_backed_up() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("app", "");
    live.cluster.sql(
        "app",
        "CREATE TABLE t (n int PRIMARY KEY, v text); INSERT INTO t SELECT n, repeat('x', n) FROM generate_series(1, 500) n;
        CREATE UNLOGGED TABLE scratch (n int); INSERT INTO scratch VALUES (1); CREATE SEQUENCE s; SELECT nextval('s')",
    );
    let standby = Live::of(live.cluster.standby(&["hot_standby_feedback = on"]));
    let report = standby.backup("app");
    assert_eq!(report.gaps().len(), 1, "{:?}", report.gaps());
    assert!(crate::support::postgres::live::reason_of(&report.gaps(), "public.scratch").contains("standby"));
    let taken = standby.restored();
    live.cluster.sql("app", "DROP TABLE scratch; CREATE UNLOGGED TABLE scratch (n int)");
    assert_comes_back(&live.cluster, &taken, "app");
}
