//! A thief's pack that names an honest session, with a key of the thief's choice as the session's.

use std::path::Path;
use std::sync::{Arc, Mutex};

use sidekeep::base::env::Env;
use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Epoch, SessionId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::codec::Codec;
use sidekeep::format::entry::{EntryBody, ObjectRef, Revoke, Snapshot};
use sidekeep::format::name::Name;
use sidekeep::format::pack::PackContent;
use sidekeep::ops::select::Selector;
use sidekeep::repo::open_pack::{OpenPack, PackSeal, SealedFrame};
use sidekeep::repo::reader::Want;

use crate::role::poison::ids;
use crate::support::world::data::create_service;
use crate::support::world::findings::FindingsByKind;
use crate::support::world::look::with_reader;
use crate::support::world::{SOURCE, World};

/// Gives this session id once, then random bytes.
struct Chosen<'a>(&'a dyn Env, Mutex<Option<SessionId>>);

impl Env for Chosen<'_> {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        match self.1.lock().expect("free").take() {
            Some(session) => bytes.copy_from_slice(session.as_bytes()),
            None => self.0.fill(bytes),
        }
    }
}

/// Commits a pack of these leaves under an honest session's id.
fn steal(world: &World, as_session: SessionId, contents: &[(ChunkId, Vec<u8>)]) {
    let thief = world.unlock(Role::Operator);
    let source = world.source(SOURCE);
    let keys = thief.source_keys(source, Epoch(1), "a crime").expect("an operator");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let env = Chosen(&*world.env, Mutex::new(Some(as_session)));
    let (session, wrap) = SessionKeys::create(&env, &restore, &keys.structure, &keys.ids).expect("a session");
    assert_eq!(session.session(), as_session);
    let mut sealer = session.sealer().expect("a sealer");
    let mut pack = OpenPack::new(PackContent::Leaves);
    for (id, content) in contents {
        let mut sealed = content.clone();
        let content_len = sealed.len() as u32;
        let frame_counter = sealer.seal(FrameType::Leaf, id, &mut sealed).expect("seals");
        pack.push(&SealedFrame {
            kind: FrameType::Leaf,
            id: *id,
            codec: Codec::Stored,
            frame_counter,
            content_len,
            sealed,
            dictionary: None,
        });
    }
    let seal =
        PackSeal { context: session.context(), session: as_session, wrap: &wrap, sequence: 77, env: &*world.env };
    let closed = pack.close(&seal, &mut sealer).expect("closes");
    let object = ObjectRef { sha256: closed.digest, size: closed.bytes.len() as u64 };
    world.objects().create(&Name::Pack(source, closed.digest), closed.bytes).expect("a pack");
    let newest = world.ledger(SOURCE).newest().expect("a snapshot").snapshot.clone();
    let clock = Moment(newest.source_clock.0 + 1);
    let mut snapshot = Snapshot::new(clock, newest.manifest, as_session, Epoch(1));
    snapshot.packs.push(object);
    world.append(Role::Operator, SOURCE, EntryBody::Snapshot(snapshot));
}

#[test]
fn a_foreign_key_of_a_session_opens_the_thiefs_frames_and_hides_no_others() {
    for is_true in [true, false] {
        let (world, memory) = World::in_memory();
        let honest = world.enrol(Role::Operator, Some(SourceScope::All));
        let backup = |world: &World, path: &Path| world.backup_as(&honest, path);
        let path = world.path("live");
        let db = create_service(&path, 20);
        backup(&world, &path);
        db.execute_batch("UPDATE fields SET value = value || '!'").expect("a day");
        backup(&world, &path);
        let session = world.ledger(SOURCE).newest().expect("one").snapshot.session;
        let old = ids(&world, &[FrameType::Leaf]);
        let day = "UPDATE contacts SET name = 'tomorrow' WHERE id = (SELECT min(id) FROM contacts)";
        db.execute_batch(day).expect("a day");
        let tomorrow = world.beside(Arc::new(memory.fork()));
        backup(&tomorrow, &path);
        let new = ids(&tomorrow, &[FrameType::Leaf]).into_iter().filter(|id| !old.contains(id));
        let planted: Vec<(ChunkId, Vec<u8>)> = new.map(|id| (id, leaf(&tomorrow, id, is_true))).collect();
        assert_eq!(planted.len(), 1, "one changed row");
        steal(&world, session, &planted);
        let newest = backup(&world, &path);
        if is_true {
            world.assert_restores(SOURCE, newest, &path);
        }
        let thief = world.key(Role::Operator).key_id();
        world.append(Role::Admin, SOURCE, EntryBody::Revoke(Revoke { key: thief, reason: RevocationReason::Stolen }));
        let report = world.try_restore(Selector::Latest(0), &world.path("restored")).expect("a restore");
        // Only the garbage itself is lost.
        assert_eq!(report.damaged().len(), usize::from(!is_true), "{:?}", report.damaged());
    }
}

fn leaf(world: &World, id: ChunkId, is_true: bool) -> Vec<u8> {
    if !is_true {
        return b"garbage".to_vec();
    }
    with_reader(world, SOURCE, None, |reader| {
        reader.fetch_one(Want { kind: FrameType::Leaf, id, location: None }).expect("a chunk")
    })
}
