//! Rows whose keys only the server can compare with their parents' keys are assigned to their owner, and stay as
//! written.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use sidekeep::base::role::Role;
use sidekeep::engine::contract::{RowSink, SinkError, Source};
use sidekeep::engine::postgres::backup::read_options::ReadOptions;
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::format::manifest::TableSummary;
use sidekeep::ops::backup::{self, BackupReport};
use sidekeep::ops::select::Selector;
use sidekeep::ops::show::{self, ShowOptions};

use crate::support::postgres::cluster::SUPERUSER;
use crate::support::postgres::live::{Live, reason_of};
use crate::support::postgres::restored::assert_comes_back;
use crate::support::world::SOURCE;
use crate::support::world::findings::FindingsByKind;

/// Users, and tables that reference them in many ways. Keys that are equal in citext or `folded` differ only in case.
const KEYS: &str = "
    CREATE SCHEMA \"e x\"; CREATE EXTENSION citext SCHEMA \"e x\"; CREATE SCHEMA s; SET search_path = s, \"e x\";
    CREATE DOMAIN mail AS citext CHECK (VALUE <> '');
    CREATE TABLE users (name citext PRIMARY KEY, \"p\"\"q\" int DEFAULT 1);
    INSERT INTO users SELECT 'User ' || n FROM generate_series(1, 200) AS n;
    CREATE TABLE notes (gone int, owner citext REFERENCES users, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
    ALTER TABLE notes DROP COLUMN gone;
    INSERT INTO notes SELECT (ARRAY['user ', 'USER ', 'User '])[1 + n % 3] || n, n FROM generate_series(1, 150) AS n;
    INSERT INTO notes VALUES (NULL, 0);
    CREATE TABLE mails (\"User\" mail NOT NULL REFERENCES users); INSERT INTO mails VALUES ('uSER 1'), ('User 2'), ('USER 1');
    CREATE TABLE albums (\"parent\" int, name mail, owner citext REFERENCES users, PRIMARY KEY (\"parent\", name));
    INSERT INTO albums VALUES (1, 'Trip', 'user 1'), (2, 'TRIP', 'user 2'), (2, 'Home', 'USER 2');
    CREATE TABLE parent (n int, album citext, pic int, FOREIGN KEY (album, n) REFERENCES albums (name, \"parent\"));
    INSERT INTO parent VALUES (1, 'trip', 1), (2, 'trip', 2), (2, 'HOME', 3), (NULL, 'TRIP', 4), (1, NULL, 5);
    CREATE TABLE tags (name text PRIMARY KEY, owner citext REFERENCES users); INSERT INTO tags VALUES ('a', 'user 3');
    CREATE TABLE tagged (tag citext REFERENCES tags); INSERT INTO tagged VALUES ('a');
    CREATE TABLE stray (owner citext); INSERT INTO stray VALUES ('nobody'), ('USER 4'), ('User 4');
    ALTER TABLE stray ADD FOREIGN KEY (owner) REFERENCES users NOT VALID;
    CREATE TABLE events (at int, owner citext REFERENCES users) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (50);
    CREATE TABLE events_2 (owner citext, x int, at int); ALTER TABLE events_2 DROP COLUMN x;
    ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (50) TO (100);
    INSERT INTO events SELECT n, 'USER ' || n FROM generate_series(1, 99) AS n;
    CREATE TABLE rooms (name citext, kind int, owner citext REFERENCES users, PRIMARY KEY (name, kind)) PARTITION BY LIST (kind);
    CREATE TABLE rooms_1 PARTITION OF rooms FOR VALUES IN (1);
    CREATE TABLE rooms_2 PARTITION OF rooms DEFAULT PARTITION BY HASH (name);
    CREATE TABLE rooms_2_1 PARTITION OF rooms_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE rooms_2_2 PARTITION OF rooms_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO rooms VALUES ('Hall', 1, 'USER 1'), ('Hall', 2, 'user 2'), ('Yard', 2, 'user 3'), ('Loft', 3, 'user 4');
    CREATE TABLE said (room citext, kind int, FOREIGN KEY (room, kind) REFERENCES rooms);
    INSERT INTO said VALUES ('hall', 1), ('HALL', 2), ('yarD', 2), ('LOFT', 3), ('Loft', 3);
    CREATE TABLE heard (room citext, kind int, FOREIGN KEY (room, kind) REFERENCES rooms_1);
    INSERT INTO heard VALUES ('hall', 1), ('Hall', 1);
    CREATE TABLE folk (name citext PRIMARY KEY, owner citext REFERENCES users);
    CREATE TABLE heirs (PRIMARY KEY (name)) INHERITS (folk);
    INSERT INTO folk VALUES ('Ann', 'user 5'); INSERT INTO heirs VALUES ('ANN', 'user 6');
    CREATE TABLE kin (name citext REFERENCES folk); INSERT INTO kin VALUES ('ANN'), ('ann');
    CREATE TABLE spans (span interval PRIMARY KEY, at timestamp UNIQUE, word text UNIQUE, owner citext REFERENCES users);
    INSERT INTO spans VALUES ('1 day', '2026-01-01', 'a', 'user 7'), ('30 days', '2026-01-02', 'bb', 'user 8');
    CREATE TABLE spent (span interval REFERENCES spans); INSERT INTO spent VALUES ('24:00'), ('1 mon'), ('1 day');
    CREATE TABLE dated (at date REFERENCES spans (at)); INSERT INTO dated VALUES ('2026-01-01'), ('2026-01-02');
    CREATE TABLE padded (word char(5) REFERENCES spans (word)); INSERT INTO padded VALUES ('a'), ('bb');
";

/// The same with a collation. From version 18 on, both sides must have the same collation.
const FOLDED: &str = "
    SET search_path = s, \"e x\";
    CREATE COLLATION \"e x\".folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE DOMAIN nick AS varchar(20) COLLATE folded;
    CREATE TABLE nicks (nick text COLLATE folded PRIMARY KEY, other nick UNIQUE, owner citext REFERENCES users);
    INSERT INTO nicks SELECT 'Nick ' || n, 'Other ' || n, 'USER ' || n FROM generate_series(1, 40) AS n;
    CREATE TABLE posts (nick text COLLATE folded REFERENCES nicks, other nick REFERENCES nicks (other));
    INSERT INTO posts SELECT upper('Nick ' || n), NULL FROM generate_series(1, 40) AS n;
    INSERT INTO posts SELECT NULL, upper('Other ' || n) FROM generate_series(1, 40) AS n;
";

/// Rows with an owner, rows with none, orphans, and the number of owners.
pub type Counts = (u64, u64, u64, u64);

#[derive(Default)]
struct Kept(Vec<Vec<OwnedCell>>);

impl RowSink for Kept {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.0.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }
}

impl Live {
    fn backup_by(&self, database: &str, sessions: usize) -> BackupReport {
        let mut unlocked = self.world.unlock(Role::Operator);
        let options = self.world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
        let sessions = NonZeroUsize::new(sessions).expect("not zero");
        let read = ReadOptions { sessions, ..ReadOptions::default() };
        let mut source = self.cluster.source(database, SUPERUSER).with_options(read);
        backup::run(&mut unlocked, &mut source, &options).expect("a snapshot")
    }

    /// Counts of the latest snapshot, by table.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let unlocked = self.world.unlock(Role::Admin);
        let source = unlocked.find_source(Some(SOURCE)).expect("a source");
        let shown = show::run(&unlocked, &ShowOptions { source, snapshot: Selector::Latest(0) }).expect("a snapshot");
        let one = |table: TableSummary| (table.name, (table.owned, table.none, table.orphan, table.owners));
        shown.tables.into_iter().map(one).collect()
    }
}

#[test]
fn rows_are_assigned_to_their_owner_however_they_write_the_key() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("keys", "");
    live.cluster.sql("keys", KEYS);
    let icu = !live.cluster.sql("keys", "SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1").is_empty();
    if icu {
        live.cluster.sql("keys", FOLDED);
        if live.cluster.version() < 18 {
            live.cluster.sql("keys", "SET search_path = s, \"e x\"; CREATE TABLE called (nick citext REFERENCES nicks); INSERT INTO called VALUES ('NICK 1')");
        }
    }
    let taken = live.taken("keys");
    let counts = live.counts();
    let of = |table: &str| counts[&format!("s.{table}")];
    assert_eq!(of("notes"), (150, 1, 0, 150));
    assert_eq!(of("mails"), (3, 0, 0, 2));
    assert_eq!(of("albums"), (3, 0, 0, 2));
    assert_eq!(of("parent"), (3, 2, 0, 2));
    assert_eq!(of("tagged"), (1, 0, 0, 1));
    assert_eq!(of("stray"), (2, 0, 1, 1));
    assert_eq!(of("events"), (99, 0, 0, 99));
    assert_eq!(of("rooms"), (4, 0, 0, 4));
    assert_eq!(of("said"), (5, 0, 0, 4));
    assert_eq!(of("heard"), (2, 0, 0, 1));
    assert_eq!(of("kin"), (2, 0, 0, 1), "not to the owner in the inheriting table");
    assert_eq!(of("spent"), (3, 0, 0, 2));
    assert_eq!((of("dated"), of("padded")), ((2, 0, 0, 2), (2, 0, 0, 2)));
    if icu {
        assert_eq!((of("nicks"), of("posts")), ((40, 0, 0, 40), (80, 0, 0, 40)));
    }
    assert_comes_back(&live.cluster, &taken, "keys");
    // Without the foreign key, rows are joined by bytes, as with every pinned reference that has no foreign key.
    live.cluster.sql("keys", "ALTER TABLE s.notes DROP CONSTRAINT notes_owner_fkey");
    live.backup("keys");
    assert_eq!(live.counts()["s.notes"], (50, 1, 100, 50));
    live.cluster.sql("keys", "ALTER TABLE s.notes ADD FOREIGN KEY (owner) REFERENCES s.users");
    let again = live.backup_by("keys", 2);
    assert_eq!((live.counts()["s.notes"], again.new_bytes), ((150, 1, 0, 150), 0));
}

#[test]
fn a_parent_value_is_what_the_parent_row_contains() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("keys", "");
    live.cluster.sql("keys", KEYS);
    let mut source = live.cluster.source("keys", SUPERUSER);
    let description = source.describe().expect("an image");
    let at = |name: &str| description.tables.iter().position(|table| table.name == name).expect("a table");
    let positions = |name: &str| {
        let keys = &description.tables[at(name)].foreign_keys;
        keys.iter().map(|key| key.parent_values.clone()).collect::<Vec<_>>()
    };
    assert_eq!(positions("s.parent"), [vec![0]], "a number is compared by bytes");
    assert_eq!((positions("s.tagged"), positions("s.dated")), (vec![vec![]], vec![vec![0]]));
    let parent = at("s.parent");
    let mut before = Kept::default();
    source.read(parent, &mut before).expect("rows");
    source.request_parent_values(parent, 0);
    let mut after = Kept::default();
    source.read(parent, &mut after).expect("rows");
    source.release().expect("released");
    let text = |cell: &OwnedCell| match cell.get() {
        Cell::Text(text) => Some(text.to_owned()),
        Cell::Null => None,
        other => panic!("{other:?}"),
    };
    let own: Vec<Vec<OwnedCell>> = after.0.iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!((own, after.0[0].len()), (before.0, 4));
    let parent_values: Vec<Option<String>> = after.0.iter().map(|row| text(&row[3])).collect();
    let expected = ["Trip", "TRIP", "Home", "TRIP"].map(|name| Some(name.to_owned()));
    assert_eq!((&parent_values[..4], &parent_values[4]), (&expected[..], &None));
}

#[test]
fn several_sessions_assign_the_same_owners_as_one() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("keys", "");
    live.cluster.sql("keys", KEYS);
    live.cluster.sql(
        "keys",
        "SET search_path = s, \"e x\"; CREATE TABLE large (room citext, kind int, pad text, FOREIGN KEY (room, kind) REFERENCES rooms);
        ALTER TABLE large ALTER pad SET STORAGE PLAIN;
        INSERT INTO large SELECT 'HALL', 1 + n % 2, rpad(n::text, 5000) FROM generate_series(1, 6500) AS n",
    );
    let first = live.backup_by("keys", 1);
    assert_eq!((live.counts()["s.large"], &first.gaps()), ((6500, 0, 0, 2), &Vec::new()));
    let again = live.backup_by("keys", 3);
    assert_eq!((again.new_bytes, again.rows, again.gaps()), (0, first.rows, Vec::new()));
}

#[test]
fn a_database_without_such_keys_gets_no_extra_queries() {
    let Some(live) = Live::start_with(&["log_statement = 'all'"]) else { return };
    live.cluster.create_database("plain", "");
    live.cluster.sql(
        "plain",
        "CREATE TABLE users (id int PRIMARY KEY, name text UNIQUE); CREATE TABLE notes (u int REFERENCES users, n varchar REFERENCES users (name));
        INSERT INTO users VALUES (1, 'a'); INSERT INTO notes VALUES (1, 'a')",
    );
    live.backup("plain");
    let log = live.cluster.log();
    assert!(log.contains("COPY (SELECT \"u\", \"n\" FROM ONLY \"public\".\"notes\") TO STDOUT"), "{log}");
    assert!(!log.contains("WITH RECURSIVE pairs") && !log.contains("AS parent WHERE"));
}

#[test]
fn an_unreadable_parent_does_not_prevent_reading_rows() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("rights", "");
    live.cluster.sql(
        "rights",
        "CREATE EXTENSION citext; CREATE ROLE reader LOGIN;
        CREATE TABLE users (name citext PRIMARY KEY); INSERT INTO users VALUES ('Ann');
        CREATE TABLE groups (name citext PRIMARY KEY, owner citext REFERENCES users); INSERT INTO groups VALUES ('One', 'ANN');
        CREATE TABLE notes (g citext REFERENCES groups, owner citext REFERENCES users); INSERT INTO notes VALUES ('ONE', 'ANN');
        GRANT SELECT ON users, notes TO reader",
    );
    let report = live.try_backup_as("rights", "reader").expect("a snapshot");
    let of_tables = |report: &BackupReport| {
        report
            .gaps()
            .iter()
            .map(|gap| gap.object.clone())
            .filter(|object| object.contains("public."))
            .collect::<Vec<_>>()
    };
    assert_eq!(of_tables(&report), ["public.groups"], "{:?}", report.gaps());
    assert_eq!(live.counts()["public.notes"], (1, 0, 0, 1));
    // If the role may not execute the comparison itself, keys are compared by bytes.
    live.cluster.sql("rights", "GRANT SELECT ON groups TO reader; REVOKE EXECUTE ON FUNCTION citext_eq FROM PUBLIC");
    let report = live.try_backup_as("rights", "reader").expect("a snapshot");
    assert_eq!((of_tables(&report), live.counts()["public.notes"]), (Vec::new(), (0, 0, 1, 0)));
}

/// An index that let a user in twice, as after a change of its collation, neither adds nor removes rows.
#[test]
fn a_duplicate_parent_neither_adds_nor_removes_rows() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("twice", "");
    live.cluster.sql(
        "twice",
        "CREATE EXTENSION citext; CREATE TABLE users (name citext PRIMARY KEY); INSERT INTO users VALUES ('Ann');
        CREATE TABLE notes (owner citext REFERENCES users, n int); INSERT INTO notes VALUES ('ann', 1), ('Ann', 2), ('ANN', 3);
        UPDATE pg_index SET indisunique = false WHERE indexrelid = 'users_pkey'::regclass",
    );
    live.cluster.sql("twice", "INSERT INTO users VALUES ('ANN')");
    live.cluster.sql("twice", "UPDATE pg_index SET indisunique = true WHERE indexrelid = 'users_pkey'::regclass");
    let mut source = live.cluster.source("twice", SUPERUSER);
    let description = source.describe().expect("an image");
    let notes = description.tables.iter().position(|table| table.name == "public.notes").expect("a table");
    source.request_parent_values(notes, 0);
    let mut rows = Kept::default();
    source.read(notes, &mut rows).expect("rows");
    source.release().expect("released");
    let parent_values: Vec<String> = rows.0.iter().map(|row| format!("{:?}", row[2].get())).collect();
    assert_eq!(parent_values, ["Text(\"ANN\")", "Text(\"Ann\")", "Text(\"ANN\")"]);
}

/// Looking up parents must not run user-defined code.
#[test]
fn no_user_defined_code_is_run() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("trap", "");
    live.cluster.sql(
        "trap",
        "CREATE TYPE pair AS (a int, b text);
        CREATE FUNCTION spring(pair) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'ran'; END $$;
        CREATE CAST (pair AS bigint) WITH FUNCTION spring AS IMPLICIT;
        CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE notes (owner pair);
        INSERT INTO notes VALUES ('(1,a)'); ALTER TABLE notes ADD FOREIGN KEY (owner) REFERENCES users NOT VALID",
    );
    let report = live.backup("trap");
    assert_eq!((report.gaps(), live.counts()["public.notes"]), (Vec::new(), (0, 0, 1, 0)));
}

/// A damaged page in the parent's index costs the owners of some rows, but no rows.
#[test]
fn a_damaged_index_of_a_parent_costs_no_rows() {
    let Some(mut live) = Live::start_with(&["enable_seqscan = off", "autovacuum = off"]) else { return };
    live.cluster.create_database("damaged", "");
    live.cluster.sql(
        "damaged",
        "CREATE EXTENSION citext; CREATE TABLE users (name citext PRIMARY KEY, n int);
        INSERT INTO users SELECT 'User ' || n FROM generate_series(100000, 120000) AS n;
        CREATE TABLE notes (owner citext REFERENCES users, n int, PRIMARY KEY (owner, n));
        INSERT INTO notes SELECT 'USER ' || n, n FROM generate_series(120000, 100000, -1) AS n",
    );
    // The server would read such a table in index order, unless our query asks for physical order.
    live.cluster.sql("damaged", "VACUUM ANALYZE");
    live.cluster.sql("damaged", "CHECKPOINT");
    let path = live.cluster.sql("damaged", "SELECT pg_relation_filepath('users_pkey')")[0][0].clone().expect("a path");
    live.cluster.stop();
    let mut file =
        std::fs::OpenOptions::new().read(true).write(true).open(live.cluster.data().join(path)).expect("an index");
    let mut pages = Vec::new();
    file.read_to_end(&mut pages).expect("pages");
    let middle = (pages.len() / 8192 / 2) as u64;
    file.seek(SeekFrom::Start(middle * 8192)).expect("a page");
    file.write_all(&[0; 8192]).expect("zeros");
    drop(file);
    live.cluster.start_server();
    let report = live.backup_by("damaged", 1);
    let gaps = report.gaps();
    let reason = reason_of(&gaps, "public.notes");
    assert!(gaps.len() == 1 && reason.contains("could not be looked up"), "{gaps:?}");
    let (owned, none, orphan, _) = live.counts()["public.notes"];
    assert!(owned > 1000 && orphan > 1000 && none == 0, "{owned} {orphan}");
    let mut numbers = live.restored().table("public.notes").integers("n");
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(100_000..=120_000), "each row once");
}

#[test]
fn a_session_queued_for_a_parent_does_not_prevent_reading() {
    let Some(live) = Live::start() else { return };
    live.cluster.create_database("keys", "");
    live.cluster.sql("keys", KEYS);
    let sessions = NonZeroUsize::new(2).expect("not zero");
    let read = ReadOptions { sessions, ..ReadOptions::default() };
    let mut source = live.cluster.source("keys", SUPERUSER).with_options(read);
    let description = source.describe().expect("an image");
    let at = |name: &str| description.tables.iter().position(|table| table.name == name).expect("a table");
    let (notes, said) = (at("s.notes"), at("s.said"));
    source.request_parent_values(notes, 0);
    source.request_parent_values(said, 0);
    // A session that drops a partition and waits for us holds the root's lock like this.
    let holder = live.cluster.client("keys");
    holder.execute("holding", "BEGIN; LOCK TABLE ONLY s.rooms IN ACCESS EXCLUSIVE MODE").expect("locked");
    let other = live.cluster.client("keys");
    std::thread::scope(|scope| {
        let altering = scope.spawn(move || other.execute("altering", "ALTER TABLE s.users ADD COLUMN late int"));
        let begun = Instant::now();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while live.cluster.sql("keys", waits)[0][0].as_deref() == Some("0") {
            assert!(begun.elapsed() < Duration::from_secs(20), "the ALTER does not wait");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut readers = source.readers().expect("sessions");
        let mut rows = Kept::default();
        assert_eq!(readers[1].read(notes, 0, &mut rows).expect("read"), []);
        assert_eq!((rows.0.len(), rows.0[0].len()), (151, 3));
        assert!(rows.0.iter().any(|row| row[0] != row[2]), "parent values");
        let mut rows = Kept::default();
        let gaps = readers[1].read(said, 0, &mut rows).expect("read");
        assert!(gaps.len() == 1 && gaps[0].detail.contains("keeps \"s\".\"rooms\" locked"), "{gaps:?}");
        assert!(rows.0.len() == 5 && rows.0.iter().all(|row| row.len() == 3 && row[0] == row[2]));
        drop(readers);
        source.release().expect("released");
        altering.join().expect("no panic").expect("altered in the end");
    });
}
