//! A repository with one snapshot, and the changed database for the backup run that fails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::memory::InMemory;
use sidekeep::base::id::{ChunkId, Digest};
use sidekeep::ops::backup::BackupReport;

use crate::support::world::data::{copy, create_service};
use crate::support::world::look::{assert_sound, chunks, packs};
use crate::support::world::{SOURCE, World};

/// A repository with a first snapshot, and a database that has changed since.
pub struct Scenario {
    pub world: World,
    pub memory: Arc<InMemory>,
    /// The database as of the first snapshot.
    pub before: PathBuf,
    /// The database as it is now.
    pub after: PathBuf,
    pub first: Digest,
}

impl Scenario {
    pub fn new(users: i64, change: &str) -> Self {
        let (world, memory) = World::in_memory();
        let (before, after) = (world.path("before"), world.path("after"));
        let db = create_service(&before, users);
        let first = world.backup(&before).snapshot.expect("committed");
        drop(db);
        copy(&before, &after);
        crate::support::world::data::open(&after).execute_batch(change).expect("a day");
        Self { world, memory, before, after, first }
    }

    /// A small database with changes that create every type of frame.
    pub fn small() -> Self {
        Self::new(
            40,
            "UPDATE contacts SET name = 'x' || id WHERE id % 2; INSERT INTO contacts VALUES (1, 3, 'new', 0);
            INSERT INTO photos VALUES (1001, 3, zeroblob(10), randomblob(200000)), (1002, 4, NULL, randomblob(50000));
            ALTER TABLE users ADD COLUMN more TEXT",
        )
    }

    /// A copy of the repository as of the first snapshot.
    pub fn fork(&self) -> Arc<InMemory> {
        Arc::new(self.memory.fork())
    }

    /// Checks what a failed run left: the first snapshot is intact, and if there is a second one, it is complete.
    /// Returns whether the run committed.
    pub fn assert_nothing_half(&self, left: &World) -> bool {
        assert_sound(left, SOURCE);
        let snapshots: Vec<Digest> = left.ledger(SOURCE).snapshots.iter().map(|record| record.id).collect();
        assert_eq!(snapshots[0], self.first);
        assert!(snapshots.len() <= 2, "{snapshots:?}");
        left.assert_restores(SOURCE, self.first, &self.before);
        if let Some(second) = snapshots.get(1) {
            left.assert_restores(SOURCE, *second, &self.after);
        }
        snapshots.len() == 2
    }

    /// Runs the next backup after a failed run: it commits, restores, and uploads no chunk that the failed run
    /// announced.
    pub fn assert_next_run(&self, left: &World) -> BackupReport {
        let announced = announced(left);
        let old: BTreeSet<Digest> = packs(left, SOURCE).into_keys().collect();
        let report = left.backup(&self.after);
        left.assert_restores(SOURCE, report.snapshot.expect("committed"), &self.after);
        left.assert_restores(SOURCE, self.first, &self.before);
        assert_sound(left, SOURCE);
        let there: BTreeSet<ChunkId> = announced.iter().flat_map(|pack| chunks_of(left, *pack)).collect();
        for pack in packs(left, SOURCE).into_keys().filter(|pack| !old.contains(pack)) {
            let twice: Vec<ChunkId> = chunks_of(left, pack).into_iter().filter(|id| there.contains(id)).collect();
            assert!(twice.is_empty(), "uploaded again: {twice:?}");
        }
        report
    }
}

fn chunks_of(world: &World, pack: Digest) -> Vec<ChunkId> {
    chunks(world, SOURCE, pack, packs(world, SOURCE)[&pack])
}

/// Packs that session announcements name. All of them must be stored.
pub fn announced(world: &World) -> BTreeSet<Digest> {
    use sidekeep::format::announcement::Announcement;
    use sidekeep::format::dsse::Envelope;
    use sidekeep::format::name::Name;

    let mut found = BTreeSet::new();
    for listed in world.objects().list(&format!("{}/sessions", world.source(SOURCE))).expect("lists") {
        let name = Name::parse(&listed.name).expect("an announcement");
        let bytes = world.objects().get(&name, 1 << 20).expect("reads");
        let announcement: Announcement =
            Envelope::decode(&bytes).expect("decodes").predicate().expect("an announcement");
        found.extend(announcement.packs.iter().map(|pack| pack.sha256));
    }
    let stored = packs(world, SOURCE);
    assert!(found.iter().all(|pack| stored.contains_key(pack)), "only stored packs are announced");
    found
}
