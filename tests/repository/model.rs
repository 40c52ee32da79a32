//! Random operations on a database and its repository, checked against the simplest model of a backup: a copy of the
//! file. Whatever happened, every snapshot must restore to the copy made with it.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use rusqlite::Connection;
use sidekeep::base::id::Digest;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{EntryBody, Prune, Tag, TagChange};

use crate::support::stores::faulty::{ALL, Effect, Fault, Faulty, Plan};
use crate::support::world::data::{copy, draw, noise, open};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::assert_sound;
use crate::support::world::{SOURCE, World, open_key, times};

const STEPS: i64 = 60;

/// A repository, its database, and a copy of the database for each snapshot.
struct Life {
    seed: i64,
    draws: i64,
    world: World,
    memory: Arc<InMemory>,
    second: String,
    live: PathBuf,
    db: Connection,
    snapshots: Vec<(Digest, PathBuf)>,
    names: i64,
    log: Vec<String>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("life {}:\n{}", self.seed, self.log.join("\n"));
        }
    }
}

impl Life {
    fn new(seed: i64) -> Self {
        let (world, memory) = World::in_memory_of(100 + seed as u64);
        let second = world.enrol(Role::Operator, Some(SourceScope::All));
        let live = world.path("live");
        let db = open(&live);
        db.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").expect("a table");
        Self { seed, draws: 0, world, memory, second, live, db, snapshots: Vec::new(), names: 0, log: Vec::new() }
    }

    /// A number below `limit`.
    fn draw(&mut self, limit: i64) -> i64 {
        self.draws += 1;
        draw(self.seed * 1_000_003 + self.draws, limit)
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn tables(&self) -> Vec<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let mut statement = self.db.prepare(sql).expect("tables");
        let names = statement.query_map([], |row| row.get(0)).expect("tables");
        names.collect::<Result<_, _>>().expect("tables")
    }

    fn any_table(&mut self) -> String {
        let tables = self.tables();
        let at = self.draw(tables.len() as i64);
        tables[at as usize].clone()
    }

    fn any_column(&mut self, table: &str) -> String {
        let columns: Vec<String> = {
            let mut statement = self.db.prepare("SELECT name FROM pragma_table_info(?1)").expect("columns");
            let names = statement.query_map([table], |row| row.get(0)).expect("columns");
            names.collect::<Result<_, _>>().expect("columns")
        };
        let at = self.draw(columns.len() as i64);
        columns[at as usize].clone()
    }

    /// Runs a statement. It may fail, as a migration of an application may.
    fn run(&mut self, sql: &str) {
        let outcome = self.db.execute_batch(sql);
        self.log.push(format!("{sql}: {outcome:?}"));
    }

    fn step(&mut self) {
        match self.draw(20) {
            0..=4 => self.insert(),
            5 | 6 => self.update(),
            7 => {
                let (table, n) = (self.any_table(), 2 + self.draw(5));
                self.run(&format!("DELETE FROM {table} WHERE abs(random()) % {n} = 0"));
            }
            8 => self.add_table(),
            9 => self.add_column(),
            10 => self.rename_or_drop(),
            11..=14 => self.backup(),
            15 | 16 => self.failing_backup(),
            17 => self.crash(),
            18 => self.maintain(),
            _ => self.restore_any(),
        }
    }

    fn insert(&mut self) {
        let (table, rows, len) = (self.any_table(), 1 + self.draw(120), self.draw(60));
        let column = self.any_column(&table);
        let value = match self.draw(8) {
            0 => "NULL".to_owned(),
            1 => format!("i * {}", 1 + self.draw(9)),
            2 => "i / 4.0".to_owned(),
            3 => format!("randomblob({})", 30_000 + self.draw(40_000)),
            _ => format!("hex(randomblob({len}))"),
        };
        let rows = if value.starts_with("randomblob") { rows % 4 } else { rows };
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
            INSERT OR IGNORE INTO {table} ({column}) SELECT {value} FROM n"
        ));
    }

    fn update(&mut self) {
        let table = self.any_table();
        let (column, n) = (self.any_column(&table), 1 + self.draw(9));
        let value = ["NULL", "1 + abs(random()) % 40", "hex(randomblob(9))"][self.draw(3) as usize];
        self.run(&format!("UPDATE OR IGNORE {table} SET {column} = {value} WHERE abs(random()) % {n} = 0"));
    }

    fn add_table(&mut self) {
        let (table, parent) = (self.name("t"), self.any_table());
        let column = self.any_column(&parent);
        let definition = match self.draw(4) {
            0 => format!(
                "(id INTEGER PRIMARY KEY, owner INTEGER REFERENCES {parent} ({column}) ON DELETE CASCADE, body)"
            ),
            1 => format!(
                "(owner REFERENCES {parent} ({column}), n INT, body TEXT, PRIMARY KEY (owner, n)) WITHOUT ROWID"
            ),
            2 => "(word TEXT, body BLOB)".to_owned(),
            _ => "(word TEXT PRIMARY KEY COLLATE NOCASE, body REAL)".to_owned(),
        };
        self.run(&format!("CREATE TABLE {table} {definition}"));
    }

    fn add_column(&mut self) {
        let (table, column) = (self.any_table(), self.name("c"));
        let kind =
            ["", "TEXT", "INT NOT NULL DEFAULT 7", "TEXT DEFAULT 'seven'", "REAL DEFAULT 0.5"][self.draw(5) as usize];
        self.run(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}"));
    }

    fn rename_or_drop(&mut self) {
        let table = self.any_table();
        let (column, name) = (self.any_column(&table), self.name("r"));
        match self.draw(5) {
            0 | 1 => self.run(&format!("ALTER TABLE {table} RENAME COLUMN {column} TO {name}")),
            2 => self.run(&format!("ALTER TABLE {table} DROP COLUMN {column}")),
            3 => self.run(&format!("ALTER TABLE {table} RENAME TO {name}")),
            _ if self.tables().len() > 1 => self.run(&format!("DROP TABLE {table}")),
            _ => self.run("VACUUM"),
        }
    }

    /// The key of one of the two operators, at random.
    fn key(&mut self) -> sidekeep::crypto::role::Identity {
        if self.draw(2) == 0 { open_key(&self.second) } else { self.world.key(Role::Operator) }
    }

    fn keep(&mut self, id: Digest) {
        let path = self.world.path(&format!("kept {}", self.snapshots.len()));
        copy(&self.live, &path);
        self.snapshots.push((id, path));
    }

    fn backup(&mut self) {
        let key = self.key();
        let report = self.world.try_backup_as(key, SOURCE, &self.live).expect("a snapshot");
        self.log.push(format!("backup: {} bytes, {} adopted, {:?}", report.new_bytes, report.adopted, report.notes()));
        assert!(report.gaps().is_empty(), "{:?}", report.gaps());
        self.keep(report.snapshot.expect("committed"));
    }

    /// Runs a backup through a store that fails as planned.
    fn backup_through(&mut self, plan: Plan) {
        let key = self.key();
        let what = format!("{plan:?}");
        let faulty = Faulty::new(self.memory.clone(), plan);
        let outcome = self.world.beside(faulty).try_backup_as(key, SOURCE, &self.live);
        let snapshots: Vec<Digest> = self.world.ledger(SOURCE).snapshots.iter().map(|record| record.id).collect();
        self.log.push(format!("backup through {what}: {:?}", outcome.as_ref().map(|report| report.number)));
        assert!(snapshots.len() <= self.snapshots.len() + 1);
        assert!(
            outcome.is_err() || snapshots.len() == self.snapshots.len() + 1,
            "a backup succeeds only if it commits"
        );
        if let Some(id) = snapshots.get(self.snapshots.len()) {
            self.keep(*id);
        }
    }

    fn failing_backup(&mut self) {
        let fault =
            [Fault::Lost(Effect::Applied), Fault::Lost(Effect::NotApplied), Fault::Refused, Fault::Full, Fault::Short]
                [self.draw(5) as usize];
        let (first, times) = (1 + self.draw(30) as u64, 1 + self.draw(3) as u64);
        self.backup_through(Plan { verbs: ALL, prefix: "", first, times, fault });
    }

    fn crash(&mut self) {
        let effect = if self.draw(2) == 0 { Effect::Applied } else { Effect::NotApplied };
        let call = 1 + self.draw(8) as u64;
        self.backup_through(Plan::crash(call, effect));
    }

    /// Appends entries of other keys between the snapshots.
    fn maintain(&mut self) {
        let Some((snapshot, _)) = self.snapshots.last() else { return };
        let (snapshot, tag) = (*snapshot, self.name("tag"));
        match self.draw(2) {
            0 => self.world.append(
                Role::Maintainer,
                SOURCE,
                EntryBody::Tag(Tag { snapshot, tag, change: TagChange::Put }),
            ),
            // Prunes a pack that does not exist.
            _ => {
                let packs = vec![Digest::of(&noise(self.draws as u64, 8))];
                let prune = Prune { packs, manifests: Vec::new() };
                self.world.append(Role::Maintainer, SOURCE, EntryBody::Prune(prune))
            }
        };
    }

    fn restore_any(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let at = self.draw(self.snapshots.len() as i64) as usize;
        let (id, path) = &self.snapshots[at];
        self.log.push(format!("restore snapshot {at}"));
        self.world.assert_restores(SOURCE, *id, path);
    }
}

#[test]
fn every_snapshot_restores_after_random_operations() {
    for seed in 0..times(6) as i64 {
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
        }
        life.backup();
        assert_sound(&life.world, SOURCE);
        let last: Vec<Digest> = life.world.ledger(SOURCE).snapshots.iter().map(|record| record.id).collect();
        assert_eq!(last, life.snapshots.iter().map(|snapshot| snapshot.0).collect::<Vec<_>>());
        for (id, path) in &life.snapshots {
            life.world.assert_restores(SOURCE, *id, path);
        }
    }
}
