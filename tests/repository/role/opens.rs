//! Which key opens which objects.

use std::collections::{BTreeMap, BTreeSet};

use sidekeep::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap};
use sidekeep::base::id::{ChunkId, Digest, Epoch, SessionId};
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::codec;
use sidekeep::format::fragment::{FragmentBlock, FragmentDirectory, SealedFragment};
use sidekeep::format::manifest::SealedManifest;
use sidekeep::format::name::Name;
use sidekeep::format::pack::{PackHeader, SealedTable, ordinal_id};
use sidekeep::format::wire::Take;
use sidekeep::repo::manifest::{self, Depth};
use sidekeep::repo::pack_table::PackTable;
use sidekeep::repo::roster::NameChange;

use crate::role::holdings::{Holdings, key_id, open_frame, open_grant};
use crate::support::world::data::{add_photo, add_tall_table, create_service};
use crate::support::world::look::packs;
use crate::support::world::{SOURCE, World};

/// Number of frames of one type that are tried per pack. They do not differ in anything that matters.
const TRIED: usize = 4;

/// The members of a role's grant, and the types of frames that it opens (sections 3 and 9 of the format).
struct Expectation {
    role: Role,
    grant: &'static [&'static str],
    opens: &'static [FrameType],
}

const STRUCTURE: &[FrameType] = &[
    FrameType::Node,
    FrameType::List,
    FrameType::Streams,
    FrameType::FrontTable,
    FrameType::RearTable,
    FrameType::Summary,
    FrameType::Roots,
    FrameType::Index,
    FrameType::IndexBlock,
];
const AND_CATALOG: &[FrameType] = &[
    FrameType::Node,
    FrameType::List,
    FrameType::Streams,
    FrameType::FrontTable,
    FrameType::RearTable,
    FrameType::Summary,
    FrameType::Roots,
    FrameType::Index,
    FrameType::IndexBlock,
    FrameType::Catalog,
    FrameType::Dictionary,
];
const EXPECTED: [Expectation; 5] = [
    Expectation { role: Role::Operator, grant: &["id_root", "structure_root"], opens: AND_CATALOG },
    Expectation { role: Role::Maintainer, grant: &["structure_root"], opens: STRUCTURE },
    Expectation { role: Role::Auditor, grant: &["structure_root"], opens: STRUCTURE },
    Expectation { role: Role::Admin, grant: &["id_root", "restore_secret", "structure_root"], opens: &FrameType::ALL },
    Expectation {
        role: Role::Recovery,
        grant: &["id_root", "restore_secret", "structure_root"],
        opens: &FrameType::ALL,
    },
];

/// A sealed frame as stored.
struct Sealed {
    kind: FrameType,
    id: ChunkId,
    session: SessionId,
    frame_counter: FrameCounter,
    bytes: Vec<u8>,
}

/// A world with every type of frame: a tree with more than one node, values of one piece and of many, and a table whose
/// rows share text.
fn full_world() -> World {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = create_service(&path, 30);
    add_photo(&db, 7, 400_000);
    add_tall_table(&db);
    db.execute_batch(
        "CREATE TABLE lines (id INTEGER PRIMARY KEY, line TEXT);
        WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 6000)
            INSERT INTO lines SELECT v, printf('many rows have this sentence, but not %0200d', v * v) FROM n",
    )
    .expect("commits");
    world.backup(&path);
    db.execute_batch("UPDATE users SET note = 'next run'").expect("a day");
    world.backup(&path);
    world
}

fn context(world: &World, source: &str) -> FrameContext {
    FrameContext { repository: world.repository().id(), source: world.source(source), epoch: Epoch(1) }
}

/// Everything that is sealed in a source, and the wraps, which are stored in the clear. The locations of frames are
/// read with a structure key, which every role has.
fn everything(world: &World, source: &str) -> (Vec<Sealed>, Vec<SessionWrap>) {
    let (mut found, mut wraps) = (Vec::new(), Vec::new());
    let id = world.source(source);
    for (pack, size) in packs(world, source) {
        let bytes = world.objects().get(&Name::Pack(id, pack), size as usize).expect("a pack");
        wraps.extend(pack_frames(world, source, &bytes, pack, &mut found));
    }
    for (manifest, size) in world.ledger(source).manifests() {
        let bytes = world.objects().get(&Name::Manifest(id, manifest), size as usize).expect("a manifest");
        let manifest = SealedManifest::read(&bytes).expect("a manifest");
        let (section, session) = (manifest.section_id(), manifest.session);
        wraps.push(manifest.wrap);
        found.extend(manifest.sections.into_iter().map(|s| Sealed {
            kind: s.kind,
            id: section,
            session,
            frame_counter: s.frame_counter,
            bytes: s.sealed,
        }));
    }
    let auditor = world.unlock(Role::Auditor);
    for listed in world.objects().list(&format!("{id}/index")).expect("lists") {
        let bytes = world.objects().get(&Name::parse(&listed.name).expect("a fragment"), 1 << 24).expect("a fragment");
        let (fragment, _, mut blocks) = SealedFragment::read(&bytes).expect("a fragment");
        let SealedFragment { session, sequence, frame_counter, sealed, .. } = fragment;
        let opener = auditor.structure(id, Epoch(1)).expect("a structure key").opener(session);
        let id = ordinal_id(session, sequence);
        let mut directory = sealed.clone();
        opener.open(FrameType::Index, &id, frame_counter, &mut directory).expect("opens");
        found.push(Sealed { kind: FrameType::Index, id, session, frame_counter, bytes: sealed });
        let directory = codec::decompress(&directory).expect("a directory");
        for block in FragmentDirectory::read(&directory).expect("a directory").blocks {
            let (sealed, rest) = blocks.split_at(block.stored as usize);
            let FragmentBlock { frame_counter, .. } = block;
            found.push(Sealed { kind: FrameType::IndexBlock, id, session, frame_counter, bytes: sealed.to_vec() });
            blocks = rest;
        }
    }
    (found, wraps)
}

fn pack_frames(world: &World, source: &str, bytes: &[u8], pack: Digest, found: &mut Vec<Sealed>) -> Vec<SessionWrap> {
    let mut take = Take::new(bytes);
    let header = PackHeader::read(&mut take).expect("a header");
    let (front, rear) =
        (SealedTable::read_front(&mut take).expect("a table"), SealedTable::read_rear(bytes).expect("a table"));
    let id = header.table_id();
    for (kind, table) in [(FrameType::FrontTable, front), (FrameType::RearTable, rear)] {
        found.push(Sealed {
            kind,
            id,
            session: header.session,
            frame_counter: table.frame_counter,
            bytes: table.sealed,
        });
    }
    let auditor = world.unlock(Role::Auditor);
    let keys = auditor.structure(world.source(source), Epoch(1)).expect("a structure key");
    let table = PackTable::from_bytes(bytes, &keys, pack).expect("a table");
    let mut tried: BTreeMap<FrameType, usize> = BTreeMap::new();
    for entry in &table.entries {
        let count = tried.entry(entry.kind).or_default();
        *count += 1;
        if *count <= TRIED {
            let start = (table.frames_start + entry.offset) as usize;
            let bytes = bytes[start..start + entry.stored as usize].to_vec();
            let session = header.sessions()[usize::from(entry.session)];
            found.push(Sealed { kind: entry.kind, id: entry.id, session, frame_counter: entry.frame_counter, bytes });
        }
    }
    header.wraps
}

/// The types of frames that this holder opens. It must open either all or none of each type.
fn opened(holdings: &Holdings, context: &FrameContext, found: &[Sealed], wraps: &[SessionWrap]) -> BTreeSet<FrameType> {
    let mut keys: BTreeMap<SessionId, Vec<Vec<u8>>> = BTreeMap::new();
    let mut types: BTreeMap<FrameType, (usize, usize)> = BTreeMap::new();
    for sealed in found {
        let keys = keys.entry(sealed.session).or_insert_with(|| holdings.session_keys(context, sealed.session, wraps));
        let what = (sealed.kind, &sealed.id);
        let opens =
            keys.iter().any(|key| open_frame(key, context, what, sealed.frame_counter, &sealed.bytes).is_some());
        let (yes, all) = types.entry(sealed.kind).or_default();
        (*yes, *all) = (*yes + usize::from(opens), *all + 1);
    }
    assert_eq!(types.len(), FrameType::ALL.len(), "every type of frame occurs: {:?}", types.keys());
    for (kind, (yes, all)) in &types {
        assert!(*yes == 0 || yes == all, "{kind:?}: {yes} of {all}");
    }
    types.into_iter().filter(|(_, (yes, _))| *yes > 0).map(|(kind, _)| kind).collect()
}

#[test]
fn each_key_opens_only_the_frames_of_its_role() {
    let world = full_world();
    let context = context(&world, SOURCE);
    let (found, wraps) = everything(&world, SOURCE);
    let names = world.repository().roster().names.clone();
    let [NameChange::Given { label, .. }] = &names[..] else { panic!("one source") };
    for Expectation { role, grant, opens } in EXPECTED {
        let file = &world.keys.iter().find(|(found, _)| *found == role).expect("a key").1;
        let holdings = open_grant(&world, file, key_id(file)).expect("its own grant");
        assert_eq!(holdings.members.keys().map(String::as_str).collect::<Vec<_>>(), grant, "{role}");
        let opened = opened(&holdings, &context, &found, &wraps);
        assert_eq!(opened, opens.iter().copied().collect(), "{role}");
        assert_eq!(holdings.open_label(&context, label).as_deref(), Some(SOURCE.as_bytes()), "{role}");
        for (other, theirs) in world.keys.iter().filter(|(other, _)| *other != role) {
            assert!(open_grant(&world, file, key_id(theirs)).is_none(), "{role} opens the grant of {other}");
        }
    }
    let nobody = Holdings { members: BTreeMap::from([("guess".to_owned(), vec![vec![0; 32]])]) };
    assert!(opened(&nobody, &context, &found, &wraps).is_empty());
    assert!(nobody.open_label(&context, label).is_none());
}

#[test]
fn an_operator_of_one_source_opens_nothing_of_another() {
    let world = full_world();
    let other = world.add_source("other");
    let file = world.enrol(Role::Operator, Some(SourceScope::Named(vec![other])));
    let holdings = open_grant(&world, &file, key_id(&file)).expect("its own grant");
    assert_eq!(holdings.members.keys().collect::<Vec<_>>(), ["source_keys"]);
    let (found, wraps) = everything(&world, SOURCE);
    let (theirs, own) = (context(&world, SOURCE), context(&world, "other"));
    assert!(opened(&holdings, &theirs, &found, &wraps).is_empty());
    let names = world.repository().roster().names.clone();
    let [NameChange::Given { label: first, .. }, NameChange::Given { label: second, .. }] = &names[..] else {
        panic!("two sources")
    };
    assert!(holdings.open_label(&theirs, first).is_none());
    assert_eq!(holdings.open_label(&own, second).as_deref(), Some(b"other".as_slice()));
}

#[test]
fn keys_of_another_repository_open_nothing() {
    let (world, (other, _)) = (full_world(), World::in_memory_of(8));
    let (found, wraps) = everything(&world, SOURCE);
    for (role, file) in &other.keys {
        let holdings = open_grant(&other, file, key_id(file)).expect("its own grant");
        assert!(opened(&holdings, &context(&world, SOURCE), &found, &wraps).is_empty(), "{role}");
    }
}

#[test]
fn all_roles_read_table_names_and_only_admins_read_values() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = create_service(&path, 20);
    db.execute_batch(
        "CREATE TABLE secret_plans (hidden_word TEXT); INSERT INTO secret_plans VALUES ('rosebud-rosebud')",
    )
    .expect("a table");
    world.backup(&path);
    // No stored byte may reveal any of these words.
    for listed in world.objects().list("").expect("lists") {
        let Some(name) = Name::parse(&listed.name) else { panic!("{} is foreign", listed.name) };
        let bytes = world.objects().get(&name, 1 << 26).expect("reads");
        for word in ["secret_plans", "hidden_word", "rosebud", "contacts", SOURCE, "/live", "example.org"] {
            let shown = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!shown, "{word:?} is visible in {name}");
        }
    }
    for role in Role::ALL {
        let summary = summary(&world, role);
        assert!(summary.contains("secret_plans"), "{role}: {summary}");
        assert!(!summary.contains("rosebud") && !summary.contains("example.org"), "{role}: {summary}");
        assert_eq!(summary.contains("hidden_word"), role.is_admin() || role == Role::Operator, "{role}: {summary}");
    }
}

/// The summary and catalog of a manifest, as far as the program opens them for a role.
fn summary(world: &World, role: Role) -> String {
    let unlocked = world.unlock(role);
    let ledger = world.ledger(SOURCE);
    let object = ledger.newest().expect("a snapshot").snapshot.manifest;
    let manifest = manifest::open(&unlocked, context(world, SOURCE), object, Depth::Role).expect("opens");
    assert_eq!(manifest.secrets.is_some(), role.is_admin());
    assert_eq!(manifest.roots.iter().any(|root| !root.ranges.is_empty()), role.is_admin());
    format!("{:?} {:?}", manifest.summary, manifest.catalog)
}
