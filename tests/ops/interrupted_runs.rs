//! A source whose runs were interrupted again and again: each left a pack, and the session that it announced.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use rusqlite::Connection;
use sidekeep::base::finding::FindingKind;
use sidekeep::base::role::Role;
use sidekeep::ops::verify::VerifyLevel;

use crate::support::stores::faulty::{Fault, Faulty, Plan, Verb};
use crate::support::world::data::{noise, open};
use crate::support::world::{SOURCE, World};

/// A repository in memory, and a database with photos.
struct Interrupted {
    world: World,
    memory: Arc<InMemory>,
    database: Connection,
    path: PathBuf,
    /// Fails the write of an index fragment. Until then, a run has stored its packs.
    plan: Plan,
}

impl Interrupted {
    fn new() -> Self {
        let (world, memory) = World::in_memory();
        let path = world.path("live.sqlite");
        let database = open(&path);
        database.execute_batch("CREATE TABLE photos (id INTEGER PRIMARY KEY, body BLOB)").expect("a table");
        world.backup(&path);
        let prefix = format!("{}/index", world.source(SOURCE)).leak();
        let plan = Plan { verbs: &[Verb::Put], prefix, first: 1, times: 1, fault: Fault::Refused };
        Self { world, memory, database, path, plan }
    }

    /// Leaves only these photos in the database.
    fn put_photos(&self, photos: Range<u32>) {
        self.database.execute_batch("BEGIN; DELETE FROM photos").expect("deletes");
        for photo in photos {
            self.database
                .execute("INSERT INTO photos VALUES (?1, ?2)", (photo, noise(u64::from(photo), 33_000)))
                .expect("inserts");
        }
        self.database.execute_batch("COMMIT").expect("commits");
    }

    /// One run after the other stores a photo, and fails.
    fn interrupt(&self, photos: Range<u32>) {
        for photo in photos {
            self.put_photos(photo..photo + 1);
            let failing = Faulty::new(self.memory.clone(), self.plan.clone());
            self.world.beside(failing).try_backup(&self.path).expect_err("fails");
        }
    }

    /// The next run stores no photo again. Verifies every row, and restores it.
    fn check(&self, photos: Range<u32>, interrupted: usize) {
        self.put_photos(photos);
        let report = self.world.backup(&self.path);
        assert!(report.adopted >= interrupted && report.new_bytes < 20_000 + 100 * interrupted as u64, "{report:?}");
        let verified = self.world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("verifies");
        // Leaves of interrupted runs are left over.
        let worse = verified.findings.iter().find(|found| found.kind != FindingKind::Orphan);
        assert!(worse.is_none(), "{worse:?}");
        self.world.assert_restores(SOURCE, report.snapshot.expect("committed"), &self.path);
    }
}

fn snapshots_are_readable_after(runs: u32) {
    let interrupted = Interrupted::new();
    interrupted.interrupt(0..runs);
    interrupted.check(0..runs, runs as usize);
    // Later runs go on from there.
    interrupted.interrupt(runs..runs + 3);
    interrupted.check(0..runs + 3, 3);
}

#[test]
fn a_snapshot_after_tens_of_interrupted_runs_is_readable() {
    snapshots_are_readable_after(40);
}

#[test]
#[ignore = "takes minutes"]
fn a_snapshot_after_1000_interrupted_runs_is_readable() {
    snapshots_are_readable_after(1000);
}
