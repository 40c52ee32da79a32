//! Keys, ids, sealed frames, wraps, grants and key files (`docs/format.md` sections 3 and 4).

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sidekeep::base::env::{Env as _, Seeded, random};
use sidekeep::base::frame::{FrameCounter, FrameType, SessionWrap, Tier};
use sidekeep::base::id::{Digest, Epoch, RepositoryId, SourceId};
use sidekeep::crypto::keyfile::{KdfCost, KeyFile, KeyFileError, Protection};
use sidekeep::crypto::role::{AdminKeys, Identity, Role, RoleKeys, SourceScope};
use sidekeep::crypto::seal::Opener;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::grant::Grant;
use sidekeep::format::pack::ordinal_id;
use sidekeep::format::wire::WireError;

use crate::support::property::with_cases;
use crate::vectors::golden;

const REPOSITORY: RepositoryId = RepositoryId::new([0x11; 16]);
const SOURCE: SourceId = SourceId::new([0x22; 16]);
const EPOCH: Epoch = Epoch(1);

fn admin() -> AdminKeys {
    AdminKeys::create_epoch(&Seeded::new(1), REPOSITORY, EPOCH)
}

fn session(admin: &AdminKeys) -> (SessionKeys, SessionWrap) {
    let structure = admin.structure().source(SOURCE).expect("every source");
    let ids = admin.ids().source(&structure).expect("an admin has every id key");
    SessionKeys::create(&Seeded::new(2), &admin.restore_public(), &structure, &ids).expect("creates")
}

fn opener(admin: &AdminKeys, tier: Tier, wrap: &SessionWrap) -> Opener {
    let structure = admin.structure().source(SOURCE).expect("every source");
    match tier {
        Tier::Structure => structure.opener(wrap.session()),
        Tier::Catalog => admin.ids().source(&structure).expect("every id key").opener(wrap.session()),
        Tier::Data => admin.opener(SOURCE, wrap).expect("unwraps"),
    }
}

/// Lines of `name: hex`, which readers in other languages can also use.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name}: {}", HEXLOWER.encode(bytes)).expect("writes");
    }
}

fn line(text: &str, name: &str) -> Vec<u8> {
    let hex = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect(name);
    HEXLOWER.decode(hex.as_bytes()).expect("hex")
}

#[test]
fn ids_and_boundaries_match_the_vectors() {
    let admin = admin();
    let structure = admin.structure().source(SOURCE).expect("every source");
    let ids = admin.ids().source(&structure).expect("an admin has every id key");
    let mut lines = Lines::default();
    // The order in which an epoch generates its secrets.
    let env = Seeded::new(1);
    lines.add("id root", &random::<32>(&env));
    lines.add("structure root", &random::<32>(&env));
    lines.add("restore secret", &random::<32>(&env));
    lines.add("restore public key", &admin.restore_public().to_bytes());
    lines.add("repository", REPOSITORY.as_bytes());
    lines.add("source", SOURCE.as_bytes());
    for frame in FrameType::ALL.into_iter().filter(|frame| frame.byte() < 16) {
        lines.add(&format!("chunk id of {frame:?} over \"content\""), ids.chunk_id(frame, b"content").as_bytes());
    }
    lines.add("boundary of level 0 over \"key\"", &ids.boundary_hash(0, b"key").to_le_bytes());
    lines.add("boundary of level 3 over \"key\"", &ids.boundary_hash(3, b"key").to_le_bytes());
    lines.add("stream boundary over \"window\"", &ids.stream_boundary_hash(b"window").to_le_bytes());
    lines.add("row hash over \"row\"", &ids.row_hash(b"row"));
    let label = structure.seal_label(&Seeded::new(3), "contacts");
    lines.add("label \"contacts\"", &label);
    let committed = String::from_utf8(golden("ids.txt", lines.0.as_bytes())).expect("text");
    assert_eq!(structure.open_label(&line(&committed, "label \"contacts\"")).expect("opens"), "contacts");
}

#[test]
fn frames_and_wraps_match_the_vectors() {
    let admin = admin();
    let (keys, wrap) = session(&admin);
    let mut lines = Lines::default();
    lines.add("wrap", wrap.as_bytes());
    keys.sealer().expect("thread 0");
    let mut sealer = keys.sealer().expect("thread 1");
    for frame in FrameType::ALL {
        let mut sealed = b"content".to_vec();
        let frame_counter = sealer.seal(frame, &ordinal_id(keys.session(), 7), &mut sealed).expect("seals");
        lines.add(
            &format!("{frame:?} on thread {} with counter {}", frame_counter.thread, frame_counter.counter),
            &sealed,
        );
    }
    let committed = String::from_utf8(golden("frames.txt", lines.0.as_bytes())).expect("text");

    let wrap = SessionWrap::from_slice(&line(&committed, "wrap")).expect("1184 bytes");
    let mut next = std::collections::BTreeMap::<Tier, u32>::new();
    for frame in FrameType::ALL {
        let counter = next.entry(frame.tier()).or_default();
        let mut opened = line(&committed, &format!("{frame:?} on thread 1 with counter {counter}"));
        let frame_counter = FrameCounter { thread: 1, counter: *counter };
        let opener = opener(&admin, frame.tier(), &wrap);
        opener.open(frame, &ordinal_id(wrap.session(), 7), frame_counter, &mut opened).expect("opens");
        assert_eq!(opened, b"content");
        *counter += 1;
    }
}

fn identity(role: Role) -> Identity {
    Identity::generate(&Seeded::new(4), role, REPOSITORY)
}

fn grant(role: Role) -> Grant {
    let (env, to) = (Seeded::new(5), identity(role));
    let scope = SourceScope::Named(vec![SOURCE]);
    let sealed = admin().grant(&env, &to.public(), role, &scope).expect("grants");
    Grant { repository: REPOSITORY, epoch: EPOCH, key: to.key_id(), sealed }
}

#[test]
fn grants_match_the_vectors() {
    let leaf = |keys: &RoleKeys| {
        let structure = keys.structure().source(SOURCE).expect("every source");
        keys.ids().map(|ids| ids.source(&structure).expect("an id key").chunk_id(FrameType::Leaf, b"x"))
    };
    let structure = admin().structure().source(SOURCE).expect("every source");
    let expected = admin().ids().source(&structure).expect("an id key").chunk_id(FrameType::Leaf, b"x");
    for (role, id) in [(Role::Operator, Some(expected)), (Role::Auditor, None), (Role::Recovery, Some(expected))] {
        let committed = golden(&format!("grant-{role}.bin"), &grant(role).encode());
        let read = Grant::decode(&committed).expect("decodes");
        assert_eq!(read, grant(role));
        let keys = identity(role).open_grant(read.epoch, &read.sealed).expect("opens");
        assert_eq!(leaf(&keys), id);
    }
}

#[test]
fn other_objects_are_refused_as_grants() {
    let bytes = grant(Role::Auditor).encode();
    assert_eq!(Grant::decode(b"{}"), Err(WireError::Foreign));
    let mut later = bytes.clone();
    later[9] = 2;
    assert!(matches!(Grant::decode(&later), Err(WireError::Unsupported { .. })));
    assert!(Grant::decode(&bytes[..40]).is_err());
}

#[test]
fn key_files_match_the_vectors() {
    let sealed = Protection::Passphrase { passphrase: "Fünf Wörter".as_bytes(), cost: KdfCost::LEAST };
    let fingerprint = Digest::of(b"roster entry 1");
    let admin = identity(Role::Admin);
    for (name, protection) in [("key-plain.txt", Protection::None), ("key-sealed.txt", sealed)] {
        let text = KeyFile::write(&Seeded::new(6), &admin, "Ana", fingerprint, protection).expect("writes");
        let committed = String::from_utf8(golden(name, text.as_bytes())).expect("text");
        let file = KeyFile::parse(&committed).expect("parses");
        assert_eq!((file.header().role, file.header().fingerprint), (Role::Admin, fingerprint));
        let opened = file.open(Some("Fünf Wörter".as_bytes())).expect("opens");
        assert!(opened.public() == admin.public());
    }
}

proptest! {
    #![proptest_config(with_cases(64))]

    #[test]
    fn altered_wraps_frames_and_grants_do_not_open(at: prop::sample::Index, by in 1u8..=255) {
        let alter = |bytes: &[u8]| {
            let mut altered = bytes.to_vec();
            altered[at.index(bytes.len())] ^= by;
            altered
        };
        let admin = admin();
        let (keys, wrap) = session(&admin);
        let altered = SessionWrap::from_slice(&alter(wrap.as_bytes())).expect("of the same length");
        prop_assert!(admin.opener(SOURCE, &altered).is_err());

        let mut sealed = b"content".to_vec();
        let id = ordinal_id(keys.session(), 0);
        let frame_counter = keys.sealer().and_then(|mut sealer| sealer.seal(FrameType::Leaf, &id, &mut sealed)).expect("seals");
        let opener = opener(&admin, Tier::Data, &wrap);
        prop_assert!(opener.open(FrameType::Leaf, &id, frame_counter, &mut alter(&sealed)).is_err());
        let other = sidekeep::base::id::ChunkId::from_slice(&alter(id.as_bytes())).expect("of the same length");
        prop_assert!(opener.open(FrameType::Leaf, &other, frame_counter, &mut sealed.clone()).is_err());

        let to = identity(Role::Operator);
        let original = grant(Role::Operator);
        if let Ok(read) = Grant::decode(&alter(&original.encode())) {
            let in_place = (read.repository, read.epoch, read.key) == (REPOSITORY, EPOCH, to.key_id());
            prop_assert!(!in_place || to.open_grant(read.epoch, &read.sealed).is_err());
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes: Vec<u8>, draw: u64) {
        let _ = Grant::decode(&bytes);
        let _ = identity(Role::Operator).open_grant(EPOCH, &bytes);
        let mut long = vec![0; SessionWrap::LEN];
        Seeded::new(draw).fill(&mut long);
        let wrap = SessionWrap::from_slice(&long).expect("1184 bytes");
        prop_assert!(admin().opener(SOURCE, &wrap).is_err());
        let opener = admin().structure().source(SOURCE).expect("every source").opener(wrap.session());
        let frame_counter = FrameCounter { thread: 0, counter: 0 };
        let id = ordinal_id(wrap.session(), 0);
        prop_assert!(opener.open(FrameType::Node, &id, frame_counter, &mut bytes.clone()).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(matches!(KeyFile::parse(&text).err(), Some(KeyFileError::Foreign)));
    }
}
