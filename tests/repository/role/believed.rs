//! What a thief with an operator key can make readers believe: nothing that no id covers hides a row, and nothing that he
//! stores makes a reader read without end or use up what the source needs later.

use std::path::PathBuf;
use std::sync::Arc;

use sidekeep::base::finding::FindingKind;
use sidekeep::base::frame::{FrameContext, FrameType};
use sidekeep::base::id::{ChunkId, Digest, Epoch};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::role::Identity;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::catalog::Catalog;
use sidekeep::format::entry::{EntryBody, ObjectRef, Revoke, Snapshot};
use sidekeep::format::name::Name;
use sidekeep::format::node::{Child, Skeleton};
use sidekeep::format::ranges::ranges_id;
use sidekeep::format::wire::Put;
use sidekeep::ops::verify::VerifyLevel;
use sidekeep::repo::fragment::FragmentDraft;
use sidekeep::repo::manifest::{Depth, ManifestDraft, ManifestLimits, OpenManifest, open, seal};
use sidekeep::repo::pack_table::PackTable;
use sidekeep::repo::reader::{LeafBatch, SnapshotReader, Want};

use crate::role::poison::{ids, poison, restored_whole};
use crate::support::stored_world::StoredWorld;
use crate::support::world::data::{add_photo, add_tall_table, create_service};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::{packs, with_reader};
use crate::support::world::{SOURCE, World, open_key};

fn content(world: &World, kind: FrameType, id: ChunkId) -> Vec<u8> {
    with_reader(world, SOURCE, None, |reader| reader.fetch_one(Want { kind, id, location: None }).expect("a chunk"))
}

/// True content whose locations are nonsense: cut off, too long, or leading nowhere.
fn with_malformed_locations(truth: &[u8], variant: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_bytes(Skeleton::hashed_of(truth).expect("a hashed part"));
    match variant {
        0 => {}
        1 => out = [truth, b"more"].concat(),
        _ => {
            // One pack, and a first location of 4 GiB in it.
            out.put_uv(1);
            out.extend_from_slice(&[7; 32]);
            out.put_uv(1);
            out.extend_from_slice(&[8; 16]);
            for number in [0, 0, u64::from(u32::MAX)] {
                out.put_uv(number);
            }
            out.extend_from_slice(&[0, 0, 0, 0]);
        }
    }
    out
}

#[test]
fn malformed_locations_of_true_frames_lose_no_row() {
    let (base, memory) = World::in_memory();
    let path = base.path("live");
    let db = create_service(&path, 5);
    base.backup(&path);
    add_tall_table(&db);
    add_photo(&db, 3, 700_000);
    let fork = || base.beside(Arc::new(memory.fork()));
    let tomorrow = fork();
    tomorrow.backup(&path);
    for (variant, kind) in [FrameType::Node, FrameType::Streams, FrameType::List].into_iter().enumerate() {
        let world = fork();
        let old = ids(&world, &[kind]);
        let new = ids(&tomorrow, &[kind]).into_iter().filter(|id| !old.contains(id));
        let malformed = |id| (id, with_malformed_locations(&content(&tomorrow, kind, id), variant));
        let planted: Vec<_> = new.map(malformed).collect();
        assert!(!planted.is_empty(), "{kind:?}");
        poison(&world, kind, &planted);
        if kind == FrameType::Node {
            // A run that knows a node does not store its ranges.
            let ranges = planted.iter().map(|(id, _)| ranges_id(id));
            let ranges: Vec<_> = ranges.map(|id| (id, content(&tomorrow, FrameType::Ranges, id))).collect();
            poison(&world, FrameType::Ranges, &ranges);
        }
        world.backup(&path);
        assert!(restored_whole(&world, &world.path("restored")), "{kind:?}");
        let report = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("verifies");
        let named = |id: &ChunkId| {
            let id = id.to_string();
            report.findings.iter().any(|found| found.kind == FindingKind::StaleHint && found.object.contains(&id))
        };
        assert!(planted.iter().all(|(id, _)| named(id)), "{kind:?}: {:#?}", report.findings);
        let lost = report.findings.iter().filter(|found| found.kind != FindingKind::StaleHint);
        assert_eq!(lost.count(), 0, "{kind:?}: {:#?}", report.findings);
    }
}

/// Stores a fragment in which all packs of the source are empty.
fn hide_packs(world: &World, signer: &Identity) {
    let source = world.source(SOURCE);
    let keys = world.unlock(Role::Operator).source_keys(source, Epoch(1), "a crime").expect("an operator");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let (session, _) = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids).expect("a session");
    let mut draft = FragmentDraft::default();
    for (digest, size) in packs(world, SOURCE) {
        let table = PackTable::read(&world.objects(), &keys.structure, digest, size).expect("a table");
        draft.add(table.indexed(), std::iter::empty());
    }
    let sealed = draft.take(&session, &mut session.sealer().expect("a sealer"), signer).expect("seals");
    let bytes = sealed.expect("a fragment");
    world.objects().create(&Name::Index(source, Digest::of(&bytes)), bytes.into()).expect("a fragment");
}

#[test]
fn a_fragment_hides_no_chunk_from_readers() {
    for is_signed_by_the_owner in [false, true] {
        let world = StoredWorld::new();
        let honest = open_key(&world.enrol(Role::Operator, Some(SourceScope::All)));
        let path = world.path("live");
        create_service(&path, 300);
        let honest_again = world.enrol(Role::Operator, Some(SourceScope::All));
        let first = world.try_backup_as(honest, SOURCE, &path).expect("a snapshot");
        let index = world.names().into_iter().filter(|name| name.contains("/index/"));
        index.collect::<Vec<_>>().iter().for_each(|name| world.delete(name));
        let owner = world.ledger(SOURCE).newest().expect("one").signer;
        let thief = world.key(Role::Operator);
        assert_ne!(owner, thief.key_id());
        if is_signed_by_the_owner {
            // The thief has stolen the key that added the packs.
            let path = world.path("other");
            create_service(&path, 30);
            let stolen = open_key(&honest_again);
            world.try_backup_as(open_key(&honest_again), SOURCE, &path).expect("a snapshot");
            let index = world.names().into_iter().filter(|name| name.contains("/index/"));
            index.collect::<Vec<_>>().iter().for_each(|name| world.delete(name));
            hide_packs(&world, &stolen);
        } else {
            hide_packs(&world, &thief);
        }
        let leaves = ids(&world, &[FrameType::Leaf]);
        assert!(leaves.len() > 10);
        with_reader(&world, SOURCE, None, |reader| {
            for id in leaves {
                reader.fetch_one(Want { kind: FrameType::Leaf, id, location: None }).expect("is found");
            }
        });
        if !is_signed_by_the_owner {
            // A writer does not believe it either: everything is still known.
            let again = world.try_backup_as(open_key(&honest_again), SOURCE, &path).expect("a snapshot");
            assert_eq!(again.tables.iter().map(|table| table.leaves_new).sum::<u64>(), 0);
            assert!(first.snapshot.is_some());
        }
    }
}

#[test]
fn a_reader_takes_any_copy_of_a_chunk_that_opens() {
    let world = StoredWorld::new();
    let path = world.path("live");
    create_service(&path, 20);
    let snapshot = world.backup(&path).snapshot.expect("committed");
    let leaves = ids(&world, &[FrameType::Leaf]);
    let second: Vec<_> = leaves.iter().map(|id| (*id, content(&world, FrameType::Leaf, *id))).collect();
    poison(&world, FrameType::Leaf, &second);
    // The frames of the first copies are damaged, and their tables are not.
    let source = world.source(SOURCE);
    let keys = world.unlock(Role::Auditor).structure(source, Epoch(1)).expect("keys");
    let copies = world.ledger(SOURCE).newest().expect("the second").snapshot.packs[0].sha256;
    for (digest, size) in packs(&world, SOURCE) {
        if digest == copies {
            continue;
        }
        let table = PackTable::read(&world.objects(), &keys, digest, size).expect("a table");
        let name = Name::Pack(source, digest).to_string();
        let mut bytes = world.read(&name).to_vec();
        let leaves = table.entries.iter().filter(|entry| entry.kind == FrameType::Leaf);
        leaves.for_each(|entry| bytes[(table.frames_start + entry.offset) as usize] ^= 1);
        world.overwrite(&name, bytes.into());
    }
    world.assert_restores(SOURCE, snapshot, &path);
}

/// Stores nodes of which each level has two, with the same children in another order. Returns a node above them.
fn plant_braid(world: &World, leaves: [Child; 2], levels: u8) -> Skeleton {
    let operator = world.unlock(Role::Operator);
    let keys = operator.source_keys(world.source(SOURCE), Epoch(1), "a crime").expect("an operator");
    let mut children = leaves.to_vec();
    let mut nodes = Vec::new();
    for level in 1..=levels {
        let mut above = Vec::new();
        for order in [[0, 1], [1, 0]] {
            let ordered = order.map(|at: usize| children[at].clone()).to_vec();
            let node = Skeleton { level, ranges: ChunkId::new([9; 20]), children: ordered, packs: Vec::new() };
            let id = keys.ids.chunk_id(FrameType::Node, &node.hashed());
            let sum = |count: fn(&Child) -> u64| node.children.iter().map(count).sum();
            above.push(Child {
                id,
                rows: sum(|child| child.rows),
                bytes: sum(|child| child.bytes),
                owners: sum(|child| child.owners),
                leaves: sum(|child| child.leaves),
                streams: None,
                location: None,
                ranges_location: None,
            });
            nodes.push((id, node.content()));
        }
        children = above;
    }
    poison(world, FrameType::Node, &nodes);
    Skeleton { level: levels + 1, ranges: ChunkId::new([9; 20]), children, packs: Vec::new() }
}

#[test]
fn a_node_that_occurs_twice_is_read_once() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 200);
    world.backup(&path);
    let two = with_reader(&world, SOURCE, None, |reader| {
        let leaf = |root: &Skeleton| (root.level == 1 && root.children.len() >= 2).then(|| root.children[..2].to_vec());
        let roots = reader.manifest().roots.iter().map(|root| reader.open_root(root).expect("opens"));
        roots.into_iter().flat_map(|root| root_of(reader, root)).find_map(|root| leaf(&root)).expect("two leaves")
    });
    let plain = |child: &Child| Child { streams: None, location: None, ranges_location: None, ..child.clone() };
    let top = plant_braid(&world, [plain(&two[0]), plain(&two[1])], 7);
    with_reader(&world, SOURCE, None, |reader| {
        let mut leaves = 0;
        let mut lost = 0;
        let mut count = |batch: LeafBatch| {
            leaves += batch.leaves.len();
            lost += batch.lost.len();
            Ok::<(), sidekeep::repo::error::RepoError>(())
        };
        reader.leaf_batches(&top, &mut count).expect("reads");
        // 14 nodes, not the 254 of the paths. Each of the two nodes of level 1 has two leaves.
        assert_eq!((leaves, lost), (4, 12));
        assert!(reader.expand(&reader.expand(&[top]).expect("distinct")).is_err());
    });
}

/// The root, or the nodes below it if it is in a pack.
fn root_of(reader: &SnapshotReader<'_>, root: Skeleton) -> Vec<Skeleton> {
    if root.level == 1 { vec![root] } else { reader.expand(&[root]).expect("reads") }
}

/// Commits a snapshot of the thief, whose catalog is changed.
fn commit_catalog(world: &World, change: impl FnOnce(&mut Catalog)) {
    commit(world, |draft| change(&mut draft.catalog));
}

/// Commits a snapshot of the thief: the newest one, with a change.
fn commit(world: &World, change: impl FnOnce(&mut ManifestDraft)) {
    let source = world.source(SOURCE);
    let context = FrameContext { repository: world.repository().id(), source, epoch: Epoch(1) };
    let newest = world.ledger(SOURCE).newest().expect("a snapshot").snapshot.clone();
    let opened = open(&world.unlock(Role::Admin), context, newest.manifest, Depth::Role).expect("opens");
    let OpenManifest { mut summary, catalog, roots, secrets, losses, .. } = opened;
    let thief = world.unlock(Role::Operator);
    let keys = thief.source_keys(source, Epoch(1), "a crime").expect("keys");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let (session, wrap) = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids).expect("a session");
    summary.source_clock = Moment(newest.source_clock.0 + 1);
    let clock = summary.source_clock;
    let catalog = catalog.expect("a catalog");
    let secrets = secrets.expect("secrets");
    let losses = losses.expect("losses");
    let mut draft = ManifestDraft { summary, catalog, roots, secrets, losses, wrap };
    change(&mut draft);
    let bytes = seal(&thief, &draft, &session, &ManifestLimits::default()).expect("seals");
    let object = ObjectRef { sha256: Digest::of(&bytes), size: bytes.len() as u64 };
    world.objects().create(&Name::Manifest(source, object.sha256), bytes.into()).expect("stores");
    let snapshot = Snapshot::new(clock, object, session.session(), Epoch(1));
    world.append(Role::Operator, SOURCE, EntryBody::Snapshot(snapshot));
}

#[test]
fn false_lengths_and_counts_cost_only_their_own_rows() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 20);
    world.backup(&path);
    commit(&world, |draft| {
        let table = draft.catalog.table_named("settings").expect("a table").number;
        let root = draft.roots.iter_mut().find(|root| root.table == table).expect("a root");
        let mut node = Skeleton::read(&root.skeleton).expect("a root");
        node.children[0].bytes = u64::MAX;
        node.children[0].rows = u64::MAX;
        root.skeleton = node.content();
        draft.summary.tables.iter_mut().for_each(|table| table.rows = u64::MAX);
        draft.summary.tables.iter_mut().for_each(|table| table.bytes = u64::MAX);
    });
    let to = world.path("restored");
    let report = world.restore(&to);
    let lost = report.damaged();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("verifies").has_damage());
    let restored = crate::support::world::data::open(&to);
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        restored.query_row(&query, (), |row| row.get::<_, i64>(0)).expect("a count")
    };
    assert_eq!((count("users"), count("settings")), (20, 0));
}

fn newest_catalog(world: &World) -> Catalog {
    with_reader(world, SOURCE, None, |reader| reader.manifest().catalog.clone().expect("a catalog"))
}

/// A world with one snapshot of an honest key, and that key.
fn honest_world() -> (World, PathBuf, String) {
    let (world, _) = World::in_memory();
    let honest = world.enrol(Role::Operator, Some(SourceScope::All));
    let path = world.path("live");
    create_service(&path, 20);
    world.try_backup_as(open_key(&honest), SOURCE, &path).expect("a snapshot");
    (world, path, honest)
}

#[test]
fn one_snapshot_cannot_use_up_the_numbers_of_tables_or_kinds() {
    for is_revoked in [false, true] {
        let (world, path, honest) = honest_world();
        let before = newest_catalog(&world);
        commit_catalog(&world, |catalog| {
            catalog.next_table = 1 << 31;
            catalog.next_kind = 256;
        });
        if is_revoked {
            let key = world.key(Role::Operator).key_id();
            world.append(Role::Admin, SOURCE, EntryBody::Revoke(Revoke { key, reason: RevocationReason::Stolen }));
        }
        let db = crate::support::world::data::open(&path);
        db.execute_batch("CREATE TABLE later (id INTEGER PRIMARY KEY)").expect("a table");
        let report = world.try_backup_as(open_key(&honest), SOURCE, &path).expect("a snapshot");
        let after = newest_catalog(&world);
        assert!(after.next_table <= before.next_table + (2 << 20) + 10, "{is_revoked}: {}", after.next_table);
        assert!(after.next_kind <= before.next_kind + 16, "{is_revoked}: {}", after.next_kind);
        world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);
    }
}

#[test]
fn unknown_members_are_carried_forward_only_within_limits() {
    let (world, path, honest) = honest_world();
    let large = serde_json::json!("x".repeat(100_000));
    commit_catalog(&world, |catalog| {
        catalog.unknown.insert("later".to_owned(), large.clone());
        catalog.tables[0].unknown.insert("later".to_owned(), large.clone());
        catalog.tables[1].unknown.insert("later".to_owned(), serde_json::json!({"small": [1, 2]}));
        catalog.settings.unknown.insert("later".to_owned(), serde_json::json!(1));
    });
    let report = world.try_backup_as(open_key(&honest), SOURCE, &path).expect("a snapshot");
    let catalog = newest_catalog(&world);
    assert!(catalog.unknown.is_empty() && catalog.tables[0].unknown.is_empty());
    assert_eq!((catalog.tables[1].unknown.len(), catalog.settings.unknown.len()), (1, 1));
    assert!(report.notes().iter().any(|note| note.contains("not carried forward")), "{:?}", report.notes());
}
