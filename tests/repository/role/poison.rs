//! What a thief with an operator key can do to the snapshots of others, and that revoking the key ends it. The thief
//! seals garbage under the ids of true chunks, and honest backups refer to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::finding::{Finding, FindingKind, Severity};
use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Digest, Epoch, KeyId};
use sidekeep::base::progress::Silent;
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::role::Identity;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::codec::Codec;
use sidekeep::format::entry::{EntryBody, ObjectRef, Revoke, Snapshot};
use sidekeep::format::name::Name;
use sidekeep::format::pack::PackContent;
use sidekeep::format::roster::{RevokeKey, RosterStatement};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, VerifyLevel, VerifyOptions};
use sidekeep::repo::fragment::FragmentDraft;
use sidekeep::repo::open_pack::{OpenPack, PackSeal, SealedFrame};
use sidekeep::repo::pack_table::PackTable;

use crate::support::world::data::{add_photo, create_service, open};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::packs;
use crate::support::world::{SOURCE, World, open_key};

/// The ids of all chunks of these types in the packs of the source.
pub fn ids(world: &World, kinds: &[FrameType]) -> Vec<ChunkId> {
    let auditor = world.unlock(Role::Auditor);
    let keys = auditor.structure(world.source(SOURCE), Epoch(1)).expect("a structure key");
    let read = |(pack, size)| PackTable::read(&world.objects(), &keys, pack, size).expect("a table").entries;
    let entries = packs(world, SOURCE).into_iter().flat_map(read);
    entries.filter(|entry| kinds.contains(&entry.kind)).map(|entry| entry.id).collect()
}

/// A frame before it is sealed.
pub struct PlainFrame {
    pub kind: FrameType,
    pub id: ChunkId,
    pub codec: Codec,
    pub payload: Vec<u8>,
    pub content_len: u32,
}

/// Stores other content under these ids and commits it as the operator, reusing the newest snapshot's manifest.
pub fn poison(world: &World, kind: FrameType, contents: &[(ChunkId, Vec<u8>)]) {
    let frame = |(id, payload): (ChunkId, Vec<u8>)| {
        let content_len = payload.len() as u32;
        PlainFrame { kind, id, codec: Codec::Stored, payload, content_len }
    };
    commit_frames(world, contents.iter().cloned().map(frame).collect());
}

/// Stores a pack with these frames and commits it as the operator, reusing the newest snapshot's manifest.
pub fn commit_frames(world: &World, frames: Vec<PlainFrame>) {
    let thief = world.unlock(Role::Operator);
    let source = world.source(SOURCE);
    let keys = thief.source_keys(source, Epoch(1), "a crime").expect("an operator");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let (session, wrap) = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids).expect("a session");
    let mut sealer = session.sealer().expect("a sealer");
    let mut pack = OpenPack::new(PackContent::Leaves);
    for PlainFrame { kind, id, codec, payload: mut sealed, content_len } in frames {
        let frame_counter = sealer.seal(kind, &id, &mut sealed).expect("seals");
        pack.push(&SealedFrame { kind, id, codec, frame_counter, content_len, sealed, dictionary: None });
    }
    let seal =
        PackSeal { context: session.context(), session: session.session(), wrap: &wrap, sequence: 0, env: &*world.env };
    let closed = pack.close(&seal, &mut sealer).expect("closes");
    let object = ObjectRef { sha256: closed.digest, size: closed.bytes.len() as u64 };
    world.objects().create(&Name::Pack(source, closed.digest), closed.bytes).expect("a pack");
    let newest = world.ledger(SOURCE).newest().expect("a snapshot").snapshot.clone();
    let clock = Moment(newest.source_clock.0 + 1);
    let mut snapshot = Snapshot::new(clock, newest.manifest, session.session(), Epoch(1));
    snapshot.packs.push(object);
    world.append(Role::Operator, SOURCE, EntryBody::Snapshot(snapshot));
}

pub fn restored_whole(world: &World, to: &Path) -> bool {
    let report = world.try_restore(Selector::Latest(0), to).expect("a restore");
    std::fs::remove_file(to).expect("was restored");
    report.damaged().is_empty() && report.refused().is_empty()
}

#[test]
fn poison_is_detected_when_opened_and_is_not_shared_once_its_key_is_revoked() {
    for kind in [FrameType::Leaf, FrameType::Piece] {
        let (world, memory) = World::in_memory();
        let honest = world.enrol(Role::Operator, Some(SourceScope::All));
        let backup = |world: &World, path: &Path| world.backup_as(&honest, path);
        let path = world.path("live");
        let db = create_service(&path, 20);
        backup(&world, &path);
        let old = ids(&world, &[kind]);
        // The chunks of the next backup, as anyone with the database and an operator's key can compute them.
        add_photo(&db, 9, 700_000);
        db.execute_batch("UPDATE contacts SET name = 'tomorrow'").expect("a day");
        let tomorrow = world.beside(Arc::new(memory.fork()));
        backup(&tomorrow, &path);
        let new: Vec<ChunkId> = ids(&tomorrow, &[kind]).into_iter().filter(|id| !old.contains(id)).collect();
        assert!(!new.is_empty());

        let garbage: Vec<_> = new.iter().map(|id| (*id, b"garbage".to_vec())).collect();
        poison(&world, kind, &garbage);
        let tainted = backup(&world, &path);
        let to = world.path("restored");
        assert!(!restored_whole(&world, &to), "{kind:?}: it is detected as soon as it is opened");

        let thief = world.key(Role::Operator).key_id();
        world.append(Role::Admin, SOURCE, EntryBody::Revoke(Revoke { key: thief, reason: RevocationReason::Stolen }));
        let clean = backup(&world, &path);
        world.assert_restores(SOURCE, clean, &path);
        // Storing the true chunks again repairs the snapshot that referred to garbage.
        world.assert_restores(SOURCE, tainted, &path);
        // So does a later snapshot, whose nodes and lists still point at the garbage.
        open(&path).execute_batch("INSERT INTO settings VALUES ('later', 1)").expect("a day");
        let later = backup(&world, &path);
        world.assert_restores(SOURCE, later, &path);
    }
}

/// Plants a fragment, signed by `identity`, which claims that these ids are in the newest pack.
fn plant(world: &World, identity: &Identity, as_if: Option<KeyId>, ids: &[ChunkId]) {
    let bytes = false_fragment(world, identity, as_if, ids);
    let name = Name::Index(world.source(SOURCE), Digest::of(&bytes));
    world.objects().create(&name, bytes.into()).expect("a fragment");
}

/// The same. Of fragments about a pack, the one whose name comes first counts, so the thief makes some until one comes
/// before all others.
fn plant_first(world: &World, identity: &Identity, ids: &[ChunkId]) {
    let source = world.source(SOURCE);
    let listed = world.objects().list(&format!("{source}/index")).expect("lists");
    let first = listed.iter().map(|listed| listed.name.clone()).min().expect("a fragment");
    let mut made = std::iter::repeat_with(|| false_fragment(world, identity, None, ids));
    let name = |bytes: &[u8]| Name::Index(source, Digest::of(bytes));
    let bytes = made.find(|bytes| name(bytes).to_string() < first).expect("soon");
    world.objects().create(&name(&bytes), bytes.into()).expect("a fragment");
}

fn false_fragment(world: &World, identity: &Identity, as_if: Option<KeyId>, ids: &[ChunkId]) -> Vec<u8> {
    let source = world.source(SOURCE);
    let keys = world.unlock(Role::Operator).source_keys(source, Epoch(1), "a crime").expect("an operator");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let (session, _) = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids).expect("a session");
    let (digest, size) = packs(world, SOURCE).pop_last().expect("a pack");
    let table = PackTable::read(&world.objects(), &keys.structure, digest, size).expect("a table");
    let (_, location) = table.locations().next().expect("a frame");
    let mut draft = FragmentDraft::default();
    draft.add(table.indexed(), ids.iter().map(|id| (*id, location)));
    let sealed = draft.take(&session, &mut session.sealer().expect("a sealer"), identity).expect("seals");
    let mut bytes = sealed.expect("a fragment");
    if let Some(key) = as_if {
        let own = identity.key_id();
        let at = bytes.windows(16).position(|window| window == own.as_bytes()).expect("the signer");
        bytes[at..at + 16].copy_from_slice(key.as_bytes());
    }
    bytes
}

/// The findings of an auditor.
fn audit(world: &World) -> Vec<Finding> {
    let options = VerifyOptions {
        level: VerifyLevel::Structure,
        source: None,
        snapshots: Vec::new(),
        known_heads: None,
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    };
    let auditor = world.unlock(Role::Auditor);
    verify::run(RepositoryAccess::WithKey(&auditor), &options).expect("verifies").findings
}

/// A world with one snapshot, the database as of the next backup, and the chunks that the next backup will store.
fn before_tomorrow() -> (World, PathBuf, Vec<ChunkId>) {
    let (world, memory) = World::in_memory();
    let path = world.path("live");
    let db = create_service(&path, 20);
    world.backup(&path);
    let old = ids(&world, &[FrameType::Leaf]);
    db.execute_batch("UPDATE contacts SET name = 'tomorrow'").expect("a day");
    let tomorrow = world.beside(Arc::new(memory.fork()));
    tomorrow.backup(&path);
    let new: Vec<ChunkId> = ids(&tomorrow, &[FrameType::Leaf]).into_iter().filter(|id| !old.contains(id)).collect();
    assert!(!new.is_empty());
    (world, path, new)
}

#[test]
fn only_index_fragments_of_trusted_operators_are_used() {
    let (world, path, new) = before_tomorrow();
    let other = world.add_source("other");
    let elsewhere = open_key(&world.enrol(Role::Operator, Some(SourceScope::Named(vec![other]))));
    let gone = open_key(&world.enrol(Role::Operator, Some(SourceScope::All)));
    world.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: gone.key_id(), reason: RevocationReason::Stolen })],
    );
    let operator = world.key(Role::Operator).key_id();
    let stranger = Identity::generate(&*world.env, Role::Operator, world.repository().id());
    for role in [Role::Auditor, Role::Maintainer, Role::Admin, Role::Recovery] {
        plant(&world, &world.key(role), None, &new);
    }
    plant(&world, &world.key(Role::Auditor), Some(operator), &new);
    for identity in [elsewhere, gone, stranger] {
        plant(&world, &identity, None, &new);
    }
    let report = world.backup(&path);
    let is_skipped = |note: &&String| note.starts_with("index fragment skipped");
    assert_eq!(report.notes().iter().filter(is_skipped).count(), 7, "{:#?}", report.notes());
    world.assert_restores(SOURCE, report.snapshot.expect("committed"), &path);

    let found = audit(&world);
    let stale = found.iter().filter(|found| found.kind == FindingKind::StaleIndex);
    let of_revoked = stale.clone().filter(|found| found.severity == Severity::Information);
    assert_eq!(of_revoked.count(), 1, "{found:#?}");
    assert_eq!(stale.count(), 8, "{found:#?}");
}

#[test]
fn a_false_index_fragment_is_ignored_once_its_key_is_revoked() {
    let (world, path, new) = before_tomorrow();
    let honest = world.enrol(Role::Operator, Some(SourceScope::All));
    let backup = || world.try_backup_as(open_key(&honest), SOURCE, &path).expect("a snapshot").snapshot.expect("one");
    plant_first(&world, &world.key(Role::Operator), &new);
    let tainted = backup();
    let found = audit(&world);
    assert!(found.iter().any(|found| found.kind == FindingKind::LostChunk), "{found:#?}");
    let thief = world.key(Role::Operator).key_id();
    world.append(Role::Admin, SOURCE, EntryBody::Revoke(Revoke { key: thief, reason: RevocationReason::Stolen }));
    let clean = backup();
    world.assert_restores(SOURCE, clean, &path);
    world.assert_restores(SOURCE, tainted, &path);
}

#[test]
fn a_true_copy_is_found_behind_more_bad_copies_than_any_limit() {
    let (world, path, new) = before_tomorrow();
    let honest = world.enrol(Role::Operator, Some(SourceScope::All));
    let garbage: Vec<_> = new.iter().map(|id| (*id, b"garbage".to_vec())).collect();
    for _ in 0..20 {
        poison(&world, FrameType::Leaf, &garbage);
    }
    let tainted = world.backup_as(&honest, &path);
    let to = world.path("restored");
    assert!(!restored_whole(&world, &to), "every copy is garbage");

    let distrust = |key| {
        let revoke = Revoke { key, reason: RevocationReason::Stolen };
        world.append(Role::Admin, SOURCE, EntryBody::Revoke(revoke));
    };
    distrust(world.key(Role::Operator).key_id());
    world.backup_as(&honest, &path);
    // With both keys distrusted, the order of the inventory decides again, and the true copies come after all others.
    distrust(open_key(&honest).key_id());
    world.assert_restores(SOURCE, tainted, &path);
}
