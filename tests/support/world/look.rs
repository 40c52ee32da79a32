//! Parts of a repository that tests inspect: roots of trees, the catalog, packs and their chunks.

use std::collections::BTreeMap;

use sidekeep::base::id::{ChunkId, Digest};
use sidekeep::base::role::Role;
use sidekeep::format::catalog::Catalog;
use sidekeep::format::manifest::{Summary, TreeKind};
use sidekeep::format::name::Name;
use sidekeep::format::node::Skeleton;
use sidekeep::repo::ledger::Ledger;
use sidekeep::repo::open::Unlocked;
use sidekeep::repo::pack_table::PackTable;
use sidekeep::repo::reader::SnapshotReader;

use super::World;

/// Each tree's root without its location hints, by table number and kind.
pub type Roots = BTreeMap<(u32, TreeKind), Vec<u8>>;

/// A snapshot, opened by the admin.
pub struct Look {
    pub catalog: Catalog,
    pub summary: Summary,
    pub roots: Roots,
}

/// Opens the snapshot `id`, or the newest one.
pub fn snapshot(world: &World, source: &str, id: Option<Digest>) -> Look {
    with_reader(world, source, id, |reader| {
        let manifest = reader.manifest();
        let roots = manifest.roots.iter().map(|root| {
            let skeleton = Skeleton::read(&root.skeleton).expect("a root");
            ((root.table, root.kind), skeleton.hashed())
        });
        Look {
            catalog: manifest.catalog.clone().expect("an admin reads the catalog"),
            summary: manifest.summary.clone(),
            roots: roots.collect(),
        }
    })
}

/// Runs `look` with the admin's reader of the snapshot `id`, or of the newest one.
pub fn with_reader<R>(
    world: &World,
    source: &str,
    id: Option<Digest>,
    look: impl FnOnce(&SnapshotReader<'_>) -> R,
) -> R {
    let unlocked = world.unlock(Role::Admin);
    let ledger = world.ledger(source);
    let record = match id {
        Some(id) => ledger.snapshots.iter().find(|record| record.id == id).expect("the snapshot"),
        None => ledger.newest().expect("a snapshot"),
    };
    look(&SnapshotReader::open(&unlocked, &ledger, record).expect("opens"))
}

/// The leaves of a table's rows in the newest snapshot.
pub fn leaves(world: &World, source: &str, table: &str) -> Vec<ChunkId> {
    with_reader(world, source, None, |reader| {
        let catalog = reader.manifest().catalog.as_ref().expect("an admin reads the catalog");
        let number = catalog.table_named(table).expect("the table").number;
        let root = reader.root(number, TreeKind::Rows).expect("opens").expect("a root");
        reader.leaves(root).expect("all nodes").into_iter().map(|leaf| leaf.id).collect()
    })
}

/// All stored packs of a source, with their sizes.
pub fn packs(world: &World, source: &str) -> BTreeMap<Digest, u64> {
    let listed = world.objects().list(&format!("{}/packs", world.source(source))).expect("lists");
    let digest = |name: &str| Name::parse(name).and_then(|name| name.digest()).expect("a pack");
    listed.into_iter().map(|listed| (digest(&listed.name), listed.size_bytes)).collect()
}

/// Ids of the chunks in a pack, read with an auditor's key.
pub fn chunks(world: &World, source: &str, pack: Digest, size: u64) -> Vec<ChunkId> {
    let unlocked = world.unlock(Role::Auditor);
    table(&unlocked, &world.ledger(source), pack, size).entries.iter().map(|entry| entry.id).collect()
}

fn table(unlocked: &Unlocked, ledger: &Ledger, pack: Digest, size: u64) -> PackTable {
    let (epoch, _) = unlocked.repository().roster().open_epoch().expect("an epoch");
    let keys = unlocked.structure(ledger.source, epoch).expect("a structure key");
    PackTable::read(unlocked.repository().objects(), &keys, pack, size).expect("a table")
}

/// Fails unless the chain is complete and everything in the inventory exists with its size.
pub fn assert_sound(world: &World, source: &str) {
    let ledger = world.ledger(source);
    assert!(ledger.voids.is_empty() && ledger.ignored.is_empty(), "{:?} {:?}", ledger.voids, ledger.ignored);
    let packs = packs(world, source);
    for pack in ledger.inventory() {
        assert_eq!(packs.get(&pack.digest), Some(&pack.size), "pack {}", pack.digest);
    }
    for (manifest, size) in ledger.manifests() {
        let found = world.objects().size(&Name::Manifest(ledger.source, manifest));
        assert_eq!(found.expect("the manifest exists"), size);
    }
}
