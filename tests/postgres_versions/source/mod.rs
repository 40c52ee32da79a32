//! Backs up a live PostgreSQL database and reads it back: rows stay the same, and a later backup stores only what
//! changed.

mod sessions;

use crate::support::world::findings::FindingsByKind;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::postgres::cluster::{Cluster, SUPERUSER};
use crate::support::world::{SOURCE, World};
use sidekeep::base::cancel::Cancel;
use sidekeep::base::finding::Finding;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::engine::contract::{Engine, EngineError, RestoreContent, RowSink, SinkError, Source, Target};
use sidekeep::engine::postgres::backup::source::PostgresSource;
use sidekeep::engine::postgres::schema::document::SchemaDocument;
use sidekeep::engine::postgres::value::column_type::FormatPreference;
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::ops::backup::{self, BackupReport};
use sidekeep::ops::restore::{self, RestoreOptions};
use sidekeep::ops::select::Selector;

const SERVICE: &str = "
    CREATE TYPE label AS ENUM ('home', 'work', 'other one');
    CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, born date,
        balance numeric(20, 4), settings jsonb, avatar uuid);
    CREATE TABLE contacts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id bigint NOT NULL REFERENCES users
        ON DELETE CASCADE, name text, kind label, starred boolean, changed timestamptz NOT NULL DEFAULT now());
    CREATE TABLE fields (contact_id uuid NOT NULL REFERENCES contacts ON DELETE CASCADE, n smallint, value text[],
        PRIMARY KEY (contact_id, n));
    CREATE TABLE photos (user_id bigint REFERENCES users ON DELETE CASCADE, bytes bytea);
    CREATE TABLE events (user_id bigint NOT NULL, at timestamp NOT NULL, what text) PARTITION BY RANGE (at);
    CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE VIEW starred AS SELECT * FROM contacts WHERE starred;
    INSERT INTO users (email, born, balance, settings, avatar)
        SELECT 'u' || n || '@example.org', CASE n % 3 WHEN 0 THEN date '1970-01-01' + n WHEN 1 THEN 'infinity' END,
            n / 7.0, jsonb_build_object('n', n, 'dark', n % 2 = 0), gen_random_uuid()
        FROM generate_series(1, 300) AS n;
    INSERT INTO contacts (user_id, name, kind, starred, changed)
        SELECT 1 + n % 300, 'contact ' || n, (enum_range(NULL::label))[1 + n % 3], n % 2 = 0, '2026-01-01'::timestamptz
            + n * interval '1 minute' FROM generate_series(1, 4000) AS n;
    INSERT INTO fields SELECT id, n, ARRAY['a b', NULL, '\"' || n || '\"'] FROM contacts, generate_series(1, 2) AS n;
    INSERT INTO photos SELECT n, decode(repeat(md5(n::text), 2000 * (n % 3)), 'hex') FROM generate_series(1, 20) AS n;
    INSERT INTO photos VALUES (NULL, 'twice'), (NULL, 'twice');
    INSERT INTO events SELECT 1 + n % 300, timestamp '2025-06-01' + n * interval '1 hour', 'event ' || n
        FROM generate_series(1, 9000) AS n;
    ALTER TABLE users ADD COLUMN plan text DEFAULT 'free';
";

struct Live {
    cluster: Cluster,
    world: World,
}

impl Live {
    fn new() -> Option<Self> {
        let cluster = Cluster::start()?;
        cluster.create_database("sync", "");
        cluster.sql("sync", SERVICE);
        Some(Self { cluster, world: World::in_memory().0 })
    }

    fn source(&self, preference: FormatPreference) -> PostgresSource {
        self.cluster.source("sync", SUPERUSER).with_preference(preference)
    }

    fn backup(&self) -> BackupReport {
        self.backup_from(&mut self.source(FormatPreference::default()))
    }

    fn backup_from(&self, source: &mut PostgresSource) -> BackupReport {
        let mut unlocked = self.world.unlock(Role::Operator);
        let options = self.world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
        backup::run(&mut unlocked, source, &options).expect("a snapshot")
    }

    fn restored(&self) -> Collected {
        let unlocked = self.world.unlock(Role::Admin);
        let options = RestoreOptions {
            source: unlocked.find_source(Some(SOURCE)).expect("a source"),
            snapshot: Selector::Latest(0),
            tables: Vec::new(),
            spill_dir: self.world.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut collected = Collected::default();
        restore::run(&unlocked, &mut collected, &options).expect("a restore");
        collected
    }

    /// The rows of every table, read directly from the server.
    fn live(&self, preference: FormatPreference) -> BTreeMap<String, Rows> {
        let mut source = self.source(preference);
        let description = source.describe().expect("an image");
        let mut tables = BTreeMap::new();
        for (at, table) in description.tables.iter().enumerate() {
            let mut rows = Rows::default();
            assert_eq!(source.read(at, &mut rows).expect("reads"), []);
            tables.insert(table.name.clone(), rows);
        }
        source.release().expect("released");
        tables
    }
}

/// Rows, and how often each occurs.
#[derive(Default, PartialEq, Debug)]
struct Rows(BTreeMap<Vec<Vec<u8>>, usize>);

impl Rows {
    fn add(&mut self, cells: &[Cell<'_>]) {
        let row = cells.iter().map(|cell| OwnedCell::new(cell).as_bytes().to_vec()).collect();
        *self.0.entry(row).or_default() += 1;
    }
}

impl RowSink for Rows {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.add(cells);
        Ok(())
    }
}

/// A target that keeps everything in memory.
#[derive(Default)]
struct Collected {
    names: Vec<String>,
    schema: Vec<u8>,
    tables: BTreeMap<String, Rows>,
    current: usize,
}

impl Target for Collected {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        assert_eq!(content.engine, Engine::Postgres);
        self.schema = content.schema.to_vec();
        self.names = content.tables.iter().map(|table| table.name.clone()).collect();
        self.tables = self.names.iter().map(|name| (name.clone(), Rows::default())).collect();
        Ok(())
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.current = table;
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        self.tables.get_mut(&self.names[self.current]).expect("a table").add(cells);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_live_database_is_restored_and_the_next_backup_stores_only_changes() {
    let Some(live) = Live::new() else { return };
    let first = live.backup();
    assert_eq!(first.gaps(), []);
    assert_eq!(first.rows, 300 + 4000 + 8000 + 22 + 9000);
    let before = live.live(FormatPreference::default());
    assert_eq!(
        before.keys().map(String::as_str).collect::<Vec<_>>(),
        ["public.contacts", "public.events", "public.fields", "public.photos", "public.users",]
    );
    let restored = live.restored();
    assert_eq!(restored.tables, before);
    let document = SchemaDocument::from_bytes(&restored.schema).expect("a document");
    assert!(document.sequences.iter().any(|sequence| sequence.name == "users_id_seq"));
    assert_eq!(live.live(FormatPreference::Text), before, "both formats give the same cells");

    let unchanged = live.backup();
    assert_eq!((unchanged.packs, unchanged.new_bytes, unchanged.rows), (0, 0, first.rows));

    // The physical order of rows does not matter, and a day's changes cost little.
    live.cluster.sql(
        "sync",
        "
        UPDATE contacts SET name = name || '!' WHERE user_id = 7;
        DELETE FROM users WHERE id = 9;
        ALTER TABLE users ADD COLUMN seen timestamptz, ADD COLUMN quota int DEFAULT 5;
    ",
    );
    live.cluster.sql("sync", "VACUUM FULL contacts");
    let third = live.backup();
    let leaves: u64 = third.tables.iter().map(|table| table.leaves).sum();
    let new: u64 = third.tables.iter().map(|table| table.leaves_new).sum();
    assert!(new > 0 && new * 5 < leaves, "{new} of {leaves}");
    assert_eq!(live.restored().tables, live.live(FormatPreference::default()));
}
