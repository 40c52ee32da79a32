//! Which key may sign what: every statement is signed by every key, put into its place, and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use sidekeep::base::id::{Digest, Epoch, SessionId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::role::Identity;
use sidekeep::format::dsse::encode;
use sidekeep::format::entry::{
    Accept, AcceptLoss, Add, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, ObjectRef, Prune, Reject, Repack, Revoke,
    Snapshot, Tag, TagChange,
};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{
    AddGrant, AddSource, CloseEpoch, Enrol, ExtendSources, Feature, OpenEpoch, Promotion, RenameSource, RetireSource,
    RevokeKey, RosterStatement, Thresholds,
};
use sidekeep::repo::append::{Signer, append};
use sidekeep::repo::create::add_source;
use sidekeep::repo::error::RepoError;

use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World, open_key};

const OPERATOR: &[Role] = &[Role::Operator];
const MAINTAINER: &[Role] = &[Role::Maintainer];
const ADMIN: &[Role] = &[Role::Admin, Role::Recovery];

/// A repository with one snapshot.
fn begun() -> (World, Arc<InMemory>) {
    let (world, memory) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 5);
    world.backup(&path);
    (world, memory)
}

/// Every kind of entry, and the roles that may sign it (section 10 of the format).
fn entries(world: &World) -> Vec<(EntryBody, &'static [Role])> {
    let ledger = world.ledger(SOURCE);
    let snapshot = ledger.newest().expect("a snapshot").id;
    let object = ObjectRef { sha256: Digest::new([7; 32]), size: 1 };
    let reason = || "a test".to_owned();
    let later = Moment(ledger.newest().expect("a snapshot").snapshot.source_clock.0 + 1);
    let manifest = ledger.newest().expect("a snapshot").snapshot.manifest;
    vec![
        (EntryBody::Snapshot(Snapshot::new(later, manifest, SessionId::new([9; 16]), Epoch(1))), OPERATOR),
        (EntryBody::Forget(Forget { snapshots: vec![snapshot], reason: reason() }), MAINTAINER),
        (EntryBody::Prune(Prune { packs: vec![object.sha256], manifests: vec![] }), MAINTAINER),
        (EntryBody::Repack(Repack { epoch: Epoch(1), packs: vec![object.sha256], added: vec![] }), MAINTAINER),
        (
            EntryBody::Hold(Hold { snapshot, end: HoldEnd::Never, reason: reason() }),
            &[Role::Maintainer, Role::Admin, Role::Recovery],
        ),
        (EntryBody::Tag(Tag { snapshot, tag: "kept".to_owned(), change: TagChange::Put }), MAINTAINER),
        (EntryBody::Accept(Accept { snapshot, reason: reason() }), ADMIN),
        (EntryBody::Reject(Reject { snapshot, reason: reason() }), ADMIN),
        (EntryBody::AcceptLoss(AcceptLoss { lost: vec![], reason: reason() }), ADMIN),
        (
            EntryBody::Erase(Erase {
                epoch: Epoch(1),
                session: SessionId::new([8; 16]),
                manifests: vec![],
                packs: vec![object],
                reason: reason(),
            }),
            ADMIN,
        ),
        (EntryBody::Revoke(Revoke { key: world.key(Role::Auditor).key_id(), reason: RevocationReason::Stolen }), ADMIN),
        (
            EntryBody::Add(Add {
                session: SessionId::new([9; 16]),
                epoch: Epoch(1),
                packs: vec![object],
                adopted: Vec::new(),
            }),
            OPERATOR,
        ),
    ]
}

/// Puts an entry into the chain without checking that it may be there.
fn force(world: &World, source: &str, key: &Identity, body: EntryBody) {
    let ledger = world.ledger(source);
    let place = ledger.next_place().expect("a place");
    let name = Name::Ledger(ledger.source, place.number);
    let entry = Entry { place, written: world.env.now(), body };
    let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
    world.objects().create(&name, bytes.into()).expect("an entry");
}

#[test]
fn ledger_entries_count_if_the_role_is_entitled_and_are_void_otherwise() {
    let (world, memory) = begun();
    for (body, signers) in entries(&world) {
        for role in Role::ALL {
            let world = world.beside(Arc::new(memory.fork()));
            let key = world.key(role);
            let may = signers.contains(&role);
            // The program refuses to sign an entry that would be void.
            let sign = |message: &[u8]| key.sign(message);
            let signer = Signer { key: key.key_id(), role, sign: &sign };
            if !may {
                let refused = append(&world.repository(), &signer, &world.ledger(SOURCE), body.clone());
                assert!(matches!(refused, Err(RepoError::WrongRole { .. })), "{role}: {}: {refused:?}", body.kind());
            }
            // A thief signs it anyway.
            let before = world.ledger(SOURCE);
            force(&world, SOURCE, &key, body.clone());
            let after = world.ledger(SOURCE);
            assert_eq!(after.voids.is_empty(), may, "{role}: {}: {:?}", body.kind(), after.voids);
            assert_eq!(after.digests.len(), 2, "an entry uses up its number even if it is void");
            if !may {
                assert_eq!(after.snapshots, before.snapshots, "{role}: {}", body.kind());
                let packs = |ledger: &sidekeep::repo::ledger::Ledger| ledger.inventory().copied().collect::<Vec<_>>();
                assert_eq!(packs(&after), packs(&before), "{role}: {}", body.kind());
                assert!(!after.was_removed(&Digest::new([7; 32])));
            }
            // Whatever the entry was, the next snapshot commits.
            if !matches!(body, EntryBody::Snapshot(_)) {
                world.backup(&world.path("live"));
            }
        }
    }
}

#[test]
fn entries_by_strangers_or_with_another_keys_signature_are_void() {
    let (world, memory) = begun();
    let (stranger, _) = World::in_memory_of(8);
    for (body, signers) in entries(&world) {
        // A key that was never enrolled here, in any role.
        for role in Role::ALL {
            let world = world.beside(Arc::new(memory.fork()));
            force(&world, SOURCE, &stranger.key(role), body.clone());
            assert_eq!(world.ledger(SOURCE).voids.len(), 1, "{role}: {}", body.kind());
        }
        // An enrolled key's id over another key's signature.
        let world = world.beside(Arc::new(memory.fork()));
        let (entitled, thief) = (world.key(signers[0]), world.key(Role::Auditor));
        let ledger = world.ledger(SOURCE);
        let place = ledger.next_place().expect("a place");
        let name = Name::Ledger(ledger.source, place.number);
        let entry = Entry { place, written: world.env.now(), body: body.clone() };
        let bytes = encode(&entry, entitled.key_id(), |message| thief.sign(message)).expect("encodes");
        world.objects().create(&name, bytes.into()).expect("an entry");
        assert_eq!(world.ledger(SOURCE).voids.len(), 1, "{}", body.kind());
    }
}

#[test]
fn an_operator_of_one_source_cannot_sign_for_another() {
    let (world, _) = begun();
    let other = world.add_source("other");
    let file = world.enrol(Role::Operator, Some(SourceScope::Named(vec![other])));
    let (body, _) = entries(&world).swap_remove(0);
    force(&world, SOURCE, &open_key(&file), body.clone());
    assert_eq!(world.ledger(SOURCE).voids.len(), 1);
    force(&world, "other", &open_key(&file), body);
    assert_eq!((world.ledger("other").voids.len(), world.ledger("other").snapshots.len()), (0, 1));
}

/// Every statement of the roster (section 11 of the format).
fn statements(world: &World) -> Vec<(&'static str, RosterStatement)> {
    let identity = Identity::generate(&*world.env, Role::Admin, world.repository().id());
    let (key, public) = (identity.key_id(), identity.public());
    let (signing, sealing) = (*public.signing.as_bytes(), public.sealing.to_bytes());
    let enrol = Enrol { key, role: Role::Admin, signing, sealing, label: "thief".to_owned(), sources: None };
    let auditor = world.key(Role::Auditor).key_id();
    let grants = BTreeMap::from([(world.key(Role::Recovery).key_id(), Digest::new([1; 32]))]);
    let (source, epoch) = (world.source(SOURCE), Epoch(1));
    let label = vec![1; 40];
    vec![
        ("enrol", RosterStatement::Enrol(enrol)),
        ("revoke", RosterStatement::Revoke(RevokeKey { key: auditor, reason: RevocationReason::Stolen })),
        ("epoch", RosterStatement::Epoch(OpenEpoch { epoch: Epoch(2), sealing, grants })),
        ("grant", RosterStatement::Grant(AddGrant { epoch: Epoch(1), key: auditor, sha256: Digest::new([1; 32]) })),
        ("close", RosterStatement::Close(CloseEpoch { epoch: Epoch(1), reason: "a test".to_owned() })),
        (
            "extend",
            RosterStatement::Extend(ExtendSources {
                key: world.key(Role::Operator).key_id(),
                sources: SourceScope::Named(vec![]),
            }),
        ),
        (
            "thresholds",
            RosterStatement::Thresholds(Thresholds {
                source: world.source(SOURCE),
                table: None,
                limits: [("rows".to_owned(), 1000)].into(),
                reason: "a test".to_owned(),
            }),
        ),
        ("rename", RosterStatement::Rename(RenameSource { source, epoch, label: label.clone() })),
        ("retire", RosterStatement::Retire(RetireSource { source, reason: "a test".to_owned() })),
        ("feature", RosterStatement::Feature(Feature { name: "x".to_owned() })),
        ("accept_loss", RosterStatement::AcceptLoss(AcceptLoss { lost: vec![], reason: "a test".to_owned() })),
        (
            "promote",
            RosterStatement::Promote(Promotion {
                mark: Digest::new([1; 32]),
                roster: world.repository().roster().head(),
                ledgers: vec![],
                reason: "a test".to_owned(),
            }),
        ),
        (
            "source",
            RosterStatement::Source(AddSource { source: SourceId::new([3; 16]), epoch: Epoch(1), label, group: None }),
        ),
    ]
}

#[test]
fn only_admins_change_the_roster_except_that_operators_add_sources() {
    let (world, memory) = begun();
    let scoped = world.enrol(Role::Operator, Some(SourceScope::Named(vec![world.source(SOURCE)])));
    let memory = Arc::new(memory.fork());
    for (what, statement) in statements(&world) {
        for role in Role::ALL {
            let world = world.beside(Arc::new(memory.fork()));
            let before = world.repository();
            world.state(role, vec![statement.clone()]);
            let after = world.repository();
            let may = role.is_admin() || (what == "source" && role == Role::Operator);
            assert_eq!(after.roster().voids.is_empty(), may, "{role}: {what}: {:?}", after.roster().voids);
            if !may {
                let (before, after) = (before.roster(), after.roster());
                assert_eq!(before.keys.keys().collect::<Vec<_>>(), after.keys.keys().collect::<Vec<_>>());
                assert!(
                    after.keys.values().all(|key| key.revoked.is_none()) && after.epochs.values().all(|e| !e.closed)
                );
                assert_eq!(before.sources.len(), after.sources.len(), "{role}: {what}");
                assert_eq!(before.epochs.len(), after.epochs.len(), "{role}: {what}");
                assert!(
                    after.promotions.is_empty() && after.sources.values().all(|source| source.thresholds.is_empty())
                );
            }
            // One statement that is not allowed voids the whole entry.
            if role == Role::Operator && what != "source" {
                let (_, source) = statements(&world).pop().expect("the last");
                world.state(role, vec![source, statement.clone()]);
                assert_eq!(world.repository().roster().sources.len(), before.roster().sources.len());
            }
        }
        let mut world = world.beside(Arc::new(memory.fork()));
        world.keys.retain(|(role, _)| *role != Role::Operator);
        world.keys.push((Role::Operator, scoped.clone()));
        world.state(Role::Operator, vec![statement]);
        assert_eq!(world.repository().roster().voids.len(), 1, "an operator of one source: {what}");
    }
}

#[test]
fn a_key_without_the_right_to_add_a_source_leaves_no_entry() {
    let (world, memory) = begun();
    for role in Role::ALL {
        let world = world.beside(Arc::new(memory.fork()));
        let before = world.repository().roster().head();
        let added = add_source(&mut world.unlock(role), "other");
        if role == Role::Operator || role.is_admin() {
            added.expect("may add a source");
        } else {
            assert!(matches!(added, Err(RepoError::WrongRole { .. })), "{role}");
            assert_eq!(world.repository().roster().head(), before, "{role}");
        }
    }
}
