//! `scripts/read_repo.py` and the program judge the same signed statements alike: chains that anybody wrote to, bundles,
//! reports, marks of copies and grants.

use std::collections::BTreeSet;
use std::fs;

use crate::support::sandbox::Ran;
use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World};
use sidekeep::base::id::{ChunkId, CopyId, Digest, Epoch, KeyId, SessionId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::hpke::ReportId;
use sidekeep::crypto::keyfile::KeyFile;
use sidekeep::crypto::role::Identity;
use sidekeep::format::bundle::EntryBundle;
use sidekeep::format::copy::CopyMark;
use sidekeep::format::dsse::{Predicate, encode};
use sidekeep::format::entry::{
    Accept, AcceptLoss, Add, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, Numbered, ObjectRef, Prune, Readmit,
    Reject, Repack, RepackedPack, Revoke, Snapshot, SnapshotReason, Tag, TagChange,
};
use sidekeep::format::name::Name;
use sidekeep::format::report::{
    BodyContent, BodyRef, DamageProblem, DamagedName, ReportBody, ReportContent, RowBefore, SignedReport,
};
use sidekeep::format::roster::{
    AddGrant, AddSource, Enrol, ExtendSources, Feature, LedgerHead, Promotion, RenameSource, RetireSource, RevokeKey,
    RosterEntry, RosterStatement, SealedTableName, Thresholds,
};
use sidekeep::ops::select::Selector;
use sidekeep::repo::ledger::{Decision, Ledger, SnapshotRecord};

use crate::reader::{ADMIN, Reader};

/// Puts an entry into the chain without checking that it may be there.
fn force(world: &World, key: &Identity, body: EntryBody) {
    let ledger = world.ledger(SOURCE);
    let place = ledger.next_place().expect("a place");
    let name = Name::Ledger(ledger.source, place.number);
    let entry = Entry { place, written: world.env.now(), body };
    let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
    world.objects().create(&name, bytes.into()).expect("an entry");
}

fn lost(number: u64) -> Numbered {
    Numbered { number, sha256: Digest::new([13; 32]) }
}

fn against(word: &str, baseline: Digest) -> SnapshotReason {
    let (found, limit) = (Some(1000), Some(200));
    SnapshotReason { reason: word.to_owned(), table: Some(3), found, limit, baseline: Some(baseline) }
}

/// Entries that would change something. Some of them name objects that do not exist.
pub fn entries(world: &World) -> Vec<EntryBody> {
    let ledger = world.ledger(SOURCE);
    let records: Vec<_> = ledger.live().collect();
    let (first, last) = (records[0], records[records.len() - 1]);
    let reason = || "a test".to_owned();
    let object = |byte| ObjectRef { sha256: Digest::new([byte; 32]), size: 1 };
    let image = |shift: i64| {
        let clock = Moment(last.snapshot.source_clock.0 + shift);
        let mut snapshot = Snapshot::new(clock, last.snapshot.manifest, SessionId::new([9; 16]), Epoch(1));
        snapshot.packs = vec![object(1), last.snapshot.packs[0]];
        snapshot.tags = vec!["forced".to_owned()];
        snapshot.reasons = vec![against("rows", first.id), against("word_of_a_later_version", first.id)];
        snapshot.baselines = vec![first.id];
        EntryBody::Snapshot(snapshot)
    };
    let movers = || vec![world.key(Role::Maintainer).key_id()];
    let added = |byte| RepackedPack { sha256: object(byte).sha256, size: 1, signer: last.signer, movers: movers() };
    let hold = |snapshot, end| EntryBody::Hold(Hold { snapshot, end, reason: reason() });
    let pack = first.snapshot.packs[0].sha256;
    vec![
        image(1),
        image(-1),
        EntryBody::Tag(Tag { snapshot: first.id, tag: "kept".to_owned(), change: TagChange::Put }),
        EntryBody::Tag(Tag { snapshot: last.id, tag: "forced".to_owned(), change: TagChange::Remove }),
        EntryBody::Add(Add {
            session: SessionId::new([8; 16]),
            epoch: Epoch(1),
            packs: vec![object(5)],
            adopted: vec![object(6)],
        }),
        hold(last.id, HoldEnd::At(Moment(1 << 51))),
        hold(first.id, HoldEnd::Now),
        hold(first.id, HoldEnd::Never),
        EntryBody::Reject(Reject { snapshot: first.id, reason: reason() }),
        EntryBody::Accept(Accept { snapshot: records[records.len().min(2) - 1].id, reason: reason() }),
        EntryBody::AcceptLoss(AcceptLoss { lost: vec![lost(25)], reason: reason() }),
        EntryBody::Repack(Repack {
            epoch: Epoch(1),
            packs: vec![pack, object(2).sha256],
            added: vec![added(2), added(3)],
        }),
        EntryBody::Prune(Prune { packs: vec![object(1).sha256, object(8).sha256], manifests: vec![] }),
        EntryBody::Erase(Erase {
            epoch: Epoch(1),
            session: SessionId::new([7; 16]),
            manifests: vec![],
            packs: vec![object(4)],
            reason: reason(),
        }),
        EntryBody::Forget(Forget { snapshots: vec![first.id, object(9).sha256], reason: reason() }),
        EntryBody::Readmit(Readmit {
            snapshots: vec![first.id, object(9).sha256],
            manifests: vec![first.snapshot.manifest.sha256, object(4).sha256],
            packs: vec![pack, object(1).sha256, object(8).sha256],
            reason: reason(),
        }),
    ]
}

/// Statements of the roster that change who may write, what counts, or nothing at all.
pub fn statements(world: &World, extended: KeyId) -> Vec<RosterStatement> {
    let (source, repository) = (world.source(SOURCE), world.repository());
    let structure = world.unlock(Role::Auditor).structure(source, Epoch(1)).expect("keys");
    let table = SealedTableName { epoch: Epoch(1), name: structure.seal_table_name(&*world.env, "contacts") };
    let reason = || "a test".to_owned();
    let limits = |limit| [("rows".to_owned(), limit)].into();
    let thresholds = |table, limit| Thresholds { source, table, limits: limits(limit), reason: reason() };
    let promotion = |roster| Promotion { mark: Digest::new([3; 32]), roster, ledgers: heads(world), reason: reason() };
    let head = repository.roster().head();
    vec![
        RosterStatement::Extend(ExtendSources { key: extended, sources: SourceScope::Named(vec![source]) }),
        RosterStatement::Extend(ExtendSources { key: world.key(Role::Admin).key_id(), sources: SourceScope::All }),
        RosterStatement::Thresholds(thresholds(None, 100)),
        RosterStatement::Thresholds(thresholds(Some(table), 1000)),
        RosterStatement::Thresholds(thresholds(None, 1001)),
        RosterStatement::AcceptLoss(AcceptLoss { lost: vec![lost(2)], reason: reason() }),
        RosterStatement::Promote(promotion(head)),
        RosterStatement::Promote(promotion(Numbered { number: 1, ..head })),
    ]
}

fn heads(world: &World) -> Vec<LedgerHead> {
    let ledger = world.ledger(SOURCE);
    let (number, sha256) = (ledger.digests.len() as u64, *ledger.digests.last().expect("an entry"));
    vec![LedgerHead { source: ledger.source, number, sha256 }]
}

/// Puts a statement into the roster without checking that it may be there.
pub fn force_statement(world: &World, key: &Identity, change: impl FnOnce(Numbered) -> RosterStatement) {
    let head = world.repository().roster().head();
    let entry = RosterEntry {
        repository: world.repository().id(),
        number: head.number + 1,
        previous: head.sha256,
        written: world.env.now(),
        statements: vec![change(head)],
    };
    let bytes = encode(&entry, key.key_id(), |message| key.sign(message)).expect("encodes");
    world.objects().create(&Name::Roster(entry.number), bytes.into()).expect("an entry");
}

/// A repository with this many snapshots, each with a change.
pub fn backed_up(runs: i64) -> World {
    let world = World::new();
    let live = world.path("live");
    let database = create_service(&live, 10);
    for run in 0..runs {
        database.execute("UPDATE settings SET value = ?1", [run]).expect("updates");
        world.backup(&live);
    }
    world
}

#[test]
fn both_readers_fold_the_same_changes_of_the_roster() {
    let Some(reader) = Reader::new() else { return };
    let world = World::new();
    let live = world.path("live");
    create_service(&live, 10);
    world.backup(&live);
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let elsewhere = SourceScope::Named(vec![SourceId::new([1; 16])]);
    let elsewhere = KeyFile::parse(&world.enrol(Role::Operator, Some(elsewhere))).expect("a key file");
    let extended = elsewhere.open(None).expect("no passphrase");
    let image = |world: &World| entries(world).swap_remove(0);
    force(&world, &extended, image(&world));
    assert_folds_alike(&reader, &world);
    for role in [Role::Auditor, Role::Admin] {
        for at in 0..statements(&world, extended.key_id()).len() {
            force_statement(&world, &world.key(role), |_| statements(&world, extended.key_id()).swap_remove(at));
        }
        force(&world, &extended, image(&world));
        assert_folds_alike(&reader, &world);
    }
    let ledger = world.ledger(SOURCE);
    assert_eq!((ledger.live().count(), ledger.roster().promotions.len()), (2, 1));
    assert_eq!(ledger.roster().sources[&ledger.source].thresholds.len(), 2);

    // The roster loses an entry that the ledger has seen, and an admin gives it up.
    force_statement(&world, &world.key(Role::Admin), |_| statements(&world, extended.key_id()).swap_remove(2));
    let lost = world.repository().roster().head();
    force(&world, &extended, image(&world));
    fs::remove_file(world.path("store").join(Name::Roster(lost.number).to_string())).expect("removes");
    assert_eq!(reader.run(&[]).code, 3);
    assert_eq!(world.ledger(SOURCE).roster_findings().len(), 1);
    assert_folds_alike(&reader, &world);
    let loss = RosterStatement::AcceptLoss(AcceptLoss { lost: vec![lost], reason: "a test".to_owned() });
    force_statement(&world, &world.key(Role::Admin), |_| loss);
    assert_folds_alike(&reader, &world);
    assert_eq!(world.ledger(SOURCE).live().count(), 3);

    // The roster loses an entry between others. The one after it names it, and an admin repeats what both said.
    let admin = world.key(Role::Admin);
    let thresholds = || statements(&world, extended.key_id()).swap_remove(2);
    (0..3).for_each(|_| force_statement(&world, &admin, |_| thresholds()));
    let middle = world.repository().roster().head().number - 2;
    fs::remove_file(world.path("store").join(Name::Roster(middle).to_string())).expect("removes");
    let loss = RosterStatement::AcceptLoss(AcceptLoss { lost: vec![], reason: "a test".to_owned() });
    force_statement(&world, &admin, |_| loss);
    assert_folds_alike(&reader, &world);
    let repository = world.repository();
    assert_eq!((repository.roster().head().number, repository.roster().ignored.len()), (middle + 2, 0));
    assert!(repository.roster().voids.iter().all(|(number, _)| *number < middle));
}

/// The answer to a store that lost entry 3 of 5 is an entry 3 that gives up 3 to 5.
#[test]
fn both_readers_give_up_what_an_admin_says_is_lost() {
    let Some(reader) = Reader::new() else { return };
    let world = backed_up(5);
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let source = world.source(SOURCE);
    fs::remove_file(world.path("store").join(Name::Ledger(source, 3).to_string())).expect("removes");
    let loss = AcceptLoss { lost: vec![], reason: "a test".to_owned() };
    force(&world, &world.key(Role::Admin), EntryBody::AcceptLoss(loss));
    assert_folds_alike(&reader, &world);
    let ledger = world.ledger(SOURCE);
    // Entry 4 names the lost one. It would have added a manifest and packs of leaves and nodes.
    assert!(ledger.given_up().len() >= 2 && ledger.voids.is_empty(), "{:?}", ledger.voids);
    assert_eq!((ledger.digests.len(), ledger.live().count()), (5, 3));
    let ran = reader.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

fn put(world: &World, name: &Name, bytes: Vec<u8>) {
    world.objects().create(name, bytes.into()).expect("creates");
}

fn signed<P: Predicate>(key: &Identity, predicate: &P) -> Vec<u8> {
    encode(predicate, key.key_id(), |message| key.sign(message)).expect("encodes")
}

fn stored(world: &World, name: &Name) -> Vec<u8> {
    world.objects().get(name, 1 << 24).expect("reads").to_vec()
}

/// A repository with three snapshots, and the script over it.
pub fn with_three_snapshots() -> Option<(Reader, World)> {
    let (reader, world) = (Reader::new()?, World::new());
    let live = world.path("live");
    let database = create_service(&live, 10);
    for run in 0..3 {
        database.execute("UPDATE settings SET value = ?1", [run]).expect("updates");
        world.backup(&live);
    }
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    fs::create_dir(reader.sandbox.path("keys")).expect("creates");
    for (role, text) in &world.keys {
        reader.sandbox.write(&format!("keys/{role}.key"), text);
    }
    Some((reader, world))
}

#[test]
fn a_second_reader_checks_bundles() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let (source, repository) = (world.source(SOURCE), world.repository().id());
    let entries: Vec<_> = (1..=3).map(|number| stored(&world, &Name::Ledger(source, number))).collect();
    let ledger = EntryBundle { repository, source: Some(source), first: 1, entries };
    let roster = (1..=2).map(|number| stored(&world, &Name::Roster(number))).collect();
    let roster = EntryBundle { repository, source: None, first: 1, entries: roster };
    let store = |bundle: &EntryBundle| {
        let bytes = bundle.encode().expect("is small");
        put(&world, &bundle.name(&bytes), bytes);
    };
    store(&ledger);
    store(&roster);
    reader.ok(&[]);
    // Somebody bundles another entry than the store has.
    store(&EntryBundle { entries: vec![b"litter".to_vec()], ..ledger.clone() });
    assert_eq!(reader.run(&[]).err.matches("entry 1 is another one").count(), 1);
    let entries = vec![ledger.entries[0].clone(), ledger.entries[2].clone()];
    store(&EntryBundle { entries, ..ledger });
    assert_eq!(reader.run(&[]).err.matches("entry 2 belongs to another place").count(), 1);
}

/// Anybody may put something at the next number, and a bundle can go on after it if it only has a place.
#[test]
fn a_bundle_contains_entries_that_are_not_decodable_but_have_a_place() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let (source, repository) = (world.source(SOURCE), world.repository().id());
    let tag = Tag { snapshot: Digest::new([1; 32]), tag: "x".to_owned(), change: TagChange::Put };
    let place = world.ledger(SOURCE).next_place().expect("a place");
    let entry = Entry { place, written: world.env.now(), body: EntryBody::Tag(tag.clone()) };
    let text = serde_json::to_string(&entry).expect("JSON").replace("\"tag\":\"x\"", "\"tag\":7");
    put(&world, &Name::Ledger(source, 4), crate::forms::signed(&world.key(Role::Maintainer), Entry::FAMILY, &text));
    force(&world, &world.key(Role::Maintainer), EntryBody::Tag(tag));
    assert_eq!(world.ledger(SOURCE).voids.len(), 1);
    let entries = (3..=5).map(|number| stored(&world, &Name::Ledger(source, number))).collect();
    let bundle = EntryBundle { repository, source: Some(source), first: 3, entries };
    let bytes = bundle.encode().expect("is small");
    assert_eq!(EntryBundle::decode(&bytes).expect("decodes"), bundle);
    put(&world, &bundle.name(&bytes), bytes);
    let err = reader.run(&[]).err;
    assert!(err.contains("entry 4 of source") && err.matches("found: ").count() == 1, "{err}");
}

/// A key's first report, about nothing.
pub fn report_of(world: &World, key: &Identity, content: ReportContent) -> SignedReport {
    SignedReport {
        repository: world.repository().id(),
        key: key.key_id(),
        number: 1,
        previous: None,
        roster: world.repository().roster().head(),
        written: world.env.now(),
        source: world.source(SOURCE),
        plan: None,
        concerns: vec![],
        content,
        body: None,
    }
}

pub fn damage_report(world: &World, key: &Identity) -> SignedReport {
    let (name, frames) = ("x".to_owned(), vec![ChunkId::new([6; 20])]);
    let damaged = vec![
        DamagedName { name: name.clone(), problem: DamageProblem::Missing, frames: vec![] },
        DamagedName { name, problem: DamageProblem::Frames, frames },
    ];
    report_of(world, key, ReportContent::Damage(damaged))
}

pub fn restore_report(world: &World, key: &Identity) -> SignedReport {
    let (plan, concerns) = (Some(Digest::new([8; 32])), vec![Digest::new([4; 32])]);
    let body = Some(BodyRef { epoch: Epoch(1), sha256: Digest::new([7; 32]), size: 4096 });
    SignedReport { plan, concerns, body, ..report_of(world, key, ReportContent::Restore) }
}

pub fn copy_mark(world: &World) -> CopyMark {
    CopyMark {
        repository: world.repository().id(),
        copy: CopyId::new([5; 16]),
        number: 1,
        previous: None,
        written: world.env.now(),
        place: "cellar".to_owned(),
        roster: world.repository().roster().head(),
        ledgers: heads(world),
    }
}

#[test]
fn a_second_reader_reads_reports_and_their_bodies() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let repository = world.repository();
    let (auditor, admin) = (world.key(Role::Auditor), world.key(Role::Admin));
    let report = |key: &Identity, number, previous, content| SignedReport {
        number,
        previous,
        ..report_of(&world, key, content)
    };
    let first = signed(&auditor, &damage_report(&world, &auditor));
    let previous = Some(Digest::of(&first));
    put(&world, &Name::Report(auditor.key_id(), 1), first);
    let second = signed(&auditor, &report(&auditor, 2, previous, ReportContent::Other("drill".to_owned())));
    put(&world, &Name::Report(auditor.key_id(), 2), second);

    let (key, epoch) = (admin.key_id(), Epoch(1));
    let before = vec![RowBefore { table: 1, row: vec![4, 4, 2, 0] }];
    let content = BodyContent { user: None, reason: "asked for by phone".to_owned(), before };
    let id = ReportId { repository: repository.id(), epoch, key, number: 1 };
    let restore_key = repository.roster().restore_key(epoch).expect("a key");
    let sealed = restore_key.seal_report(&*world.env, &id, &content.encode()).expect("seals");
    let body = ReportBody { repository: repository.id(), epoch, key, number: 1, sealed }.encode().expect("is small");
    let named = BodyRef { epoch, sha256: Digest::of(&body), size: body.len() as u64 };
    let restore = SignedReport { body: Some(named), ..report(&admin, 1, None, ReportContent::Restore) };
    put(&world, &Name::Report(key, 1), signed(&admin, &restore));
    let body_name = Name::ReportBody(key, named.sha256);
    put(&world, &body_name, body);
    let said = |args: &[&str]| {
        let ran = reader.run(args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    assert!(said(&[]).contains("1 of key") && said(&[]).contains(": drill, no body"));
    assert!(said(&["--key-file", "keys/auditor.key"]).contains(": restore, body sealed"));
    assert!(said(ADMIN).contains(": restore, asked for by phone"));
    fs::remove_file(world.path("store").join(body_name.to_string())).expect("removes");
    assert!(said(ADMIN).contains(": restore, body erased"));

    // A report counts, although the one before it is gone or another.
    let withheld = report(&auditor, 4, Some(Digest::new([1; 32])), ReportContent::Other("drill".to_owned()));
    put(&world, &Name::Report(auditor.key_id(), 4), signed(&auditor, &withheld));
    let err = reader.run(&[]).err;
    assert!(err.contains("report 4 of key") && err.contains("the one before number 4 is lost or withheld"), "{err}");

    // An auditor cannot report a restore, and nobody in another's name.
    let wrong = signed(&auditor, &report(&auditor, 3, None, ReportContent::Restore));
    put(&world, &Name::Report(auditor.key_id(), 3), wrong);
    let wrong = signed(&auditor, &report(&auditor, 2, None, ReportContent::Other("drill".to_owned())));
    put(&world, &Name::Report(key, 2), wrong);
    assert_eq!(reader.run(&[]).err.matches("does not count").count(), 2);
}

#[test]
fn a_second_reader_reads_marks_of_copies_and_their_promotion() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let mark = |number, previous| CopyMark { number, previous, ..copy_mark(&world) };
    let first = signed(&world.key(Role::Maintainer), &mark(1, None));
    let newest = Digest::of(&first);
    put(&world, &Name::Copy(1), first);
    assert!(reader.run(&[]).err.contains("this place is a copy, cellar, not promoted"));
    let promote = |head, mark| Promotion { mark, roster: head, ledgers: heads(&world), reason: "a test".to_owned() };
    force_statement(&world, &world.key(Role::Admin), |head| RosterStatement::Promote(promote(head, newest)));
    assert!(reader.run(&[]).err.contains("this place is a copy, cellar, promoted"));
    put(&world, &Name::Copy(2), signed(&world.key(Role::Auditor), &mark(2, Some(newest))));
    let ran = reader.run(&[]);
    assert!(ran.err.contains("copy/0000000002 does not count: is not entitled"), "{}", ran.err);
    assert!(ran.err.contains("cellar, promoted"));
}

/// A thief who has a revoked key would otherwise stop all hosts, by naming an old roster entry.
#[test]
fn a_mark_of_a_revoked_key_does_not_count() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let mark = copy_mark(&world);
    put(&world, &Name::Copy(1), signed(&world.key(Role::Maintainer), &mark));
    assert!(reader.run(&[]).err.contains("this place is a copy"));
    let key = world.key(Role::Maintainer).key_id();
    world.state(Role::Admin, vec![RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen })]);
    let err = reader.run(&[]).err;
    assert!(err.contains("copy/0000000001 does not count: is not entitled") && !err.contains("is a copy"), "{err}");
    // The mirror then has a new key, which the roster that the first mark named does not have yet.
    let other = KeyFile::parse(&world.enrol(Role::Maintainer, None)).expect("a key file").open(None).expect("opens");
    let next = CopyMark { number: 2, previous: Some(Digest::of(&stored(&world, &Name::Copy(1)))), ..mark };
    put(&world, &Name::Copy(2), signed(&other, &next));
    assert!(reader.run(&[]).err.contains("this place is a copy, cellar, not promoted"));
}

/// Its operator could compute ids, and so test guesses, for sources that it has nothing to do with.
#[test]
fn a_grant_of_all_sources_is_refused_for_an_operator_of_some() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let some = Some(SourceScope::Named(vec![world.source(SOURCE)]));
    let file = world.enrol_with(Role::Operator, some, |keys, public| {
        let sealed = keys.grant(&*world.env, public, Role::Operator, &SourceScope::All).expect("seals");
        world.grant(public.id(), sealed)
    });
    let key = || KeyFile::parse(&file).expect("a key file").open(None).expect("no passphrase");
    reader.sandbox.write("keys/new.key", &file);
    let args = ["--key-file", "keys/new.key"];
    assert!(world.repository().unlock(key()).is_err());
    assert!(reader.run(&args).err.contains("contains more than its key may hold"));
    let extend = ExtendSources { key: key().key_id(), sources: SourceScope::All };
    world.state(Role::Admin, vec![RosterStatement::Extend(extend)]);
    assert!(world.repository().unlock(key()).expect("opens").epoch(Epoch(1)).is_ok());
    reader.ok(&args);
}

/// The point of order 1 as a key verifies the base point as a signature of everything, if a reader is not strict.
#[test]
fn both_readers_enrol_no_key_that_is_not_a_point_or_weak() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xf0, 0x7f);
    let not_a_point = [[2; 32], [7; 32], [9; 32]];
    let sealing = Identity::generate(&*world.env, Role::Operator, world.repository().id()).public().sealing.to_bytes();
    for signing in not_a_point.into_iter().chain([identity, not_canonical]) {
        let (key, sources) = (KeyId::of(&signing, &sealing), Some(SourceScope::All));
        let enrol = Enrol { key, role: Role::Operator, signing, sealing, label: "weak".to_owned(), sources };
        force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Enrol(enrol));
    }
    assert!(world.repository().roster().voids.is_empty());
    let mut signature = [0x66; 64];
    signature[0] = 0x58;
    signature[32..].copy_from_slice(&identity);
    let EntryBody::Snapshot(image) = entries(&world).swap_remove(0) else { panic!("a snapshot") };
    let entry = Entry {
        place: world.ledger(SOURCE).next_place().expect("a place"),
        written: world.env.now(),
        body: EntryBody::Snapshot(image),
    };
    let bytes = encode(&entry, KeyId::of(&identity, &sealing), |_| signature).expect("encodes");
    put(&world, &Name::Ledger(world.source(SOURCE), 4), bytes);
    assert_eq!(world.ledger(SOURCE).live().count(), 3);
    assert_folds_alike(&reader, &world);
    assert!(reader.run(&[]).err.contains("is signed by a key that is not enrolled"));
}

#[test]
fn a_key_uses_the_grants_that_open_and_lacks_only_epochs_without_one() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let sealed = stored(&world, &world.grant_name(Epoch(1), world.key(Role::Admin).key_id()));
    let (file, epoch) = (world.enrol_with(Role::Auditor, None, |_, _| sealed), Epoch(1));
    reader.sandbox.write("keys/new.key", &file);
    let key = KeyFile::parse(&file).expect("a key file").open(None).expect("no passphrase");
    let refused = world.repository().unlock(KeyFile::parse(&file).expect("a key file").open(None).expect("opens"));
    assert!(refused.is_err());
    let args = ["--key-file", "keys/new.key"];
    assert_eq!(reader.run(&args).code, 1);
    // A further grant makes the key usable. The bad one stays, and is reported.
    let admin = world.unlock(Role::Admin);
    let keys = admin.admin(epoch, "a grant").expect("an admin");
    let sealed = keys.grant(&*world.env, &key.public(), Role::Auditor, &SourceScope::All).expect("seals");
    let grant = world.grant(key.key_id(), sealed);
    let sha256 = Digest::of(&grant);
    put(&world, &Name::Grant(epoch, key.key_id(), sha256), grant);
    let grant = RosterStatement::Grant(AddGrant { epoch, key: key.key_id(), sha256 });
    force_statement(&world, &world.key(Role::Admin), |_| grant);
    let ran = reader.run(&[&args[..], &["--snapshot", "latest"]].concat());
    assert!(ran.code == 3 && ran.out.contains("\tcontacts\n"), "{}", ran.err);
    assert!(world.repository().unlock(key).expect("opens").epoch(epoch).is_ok());
}

#[test]
fn the_script_folds_chains_like_the_program() {
    let Some(reader) = Reader::new() else { return };
    let world = backed_up(3);
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let elsewhere = SourceScope::Named(vec![SourceId::new([1; 16])]);
    let elsewhere = world.enrol(Role::Operator, Some(elsewhere));
    let second = world.enrol(Role::Operator, Some(SourceScope::All));
    let key = |text: &str| KeyFile::parse(text).expect("a key file").open(None).expect("no passphrase");
    for text in [&elsewhere, &second] {
        entries(&world).into_iter().take(1).for_each(|body| force(&world, &key(text), body));
    }
    for role in Role::ALL {
        entries(&world).into_iter().for_each(|body| force(&world, &world.key(role), body));
        let ledger = world.ledger(SOURCE);
        let number = ledger.next_place().expect("a place").number;
        world.objects().create(&Name::Ledger(ledger.source, number), b"litter".as_slice().into()).expect("creates");
        assert_folds_alike(&reader, &world);
    }
    // One key is revoked in this chain, another in the roster.
    let operator = world.key(Role::Operator);
    force(
        &world,
        &world.key(Role::Admin),
        EntryBody::Revoke(Revoke { key: operator.key_id(), reason: RevocationReason::Stolen }),
    );
    world.state(
        Role::Auditor,
        vec![RosterStatement::Revoke(RevokeKey { key: operator.key_id(), reason: RevocationReason::Stolen })],
    );
    world.state(
        Role::Admin,
        vec![RosterStatement::Revoke(RevokeKey { key: key(&second).key_id(), reason: RevocationReason::Stolen })],
    );
    for key in [&operator, &key(&second)] {
        entries(&world).into_iter().for_each(|body| force(&world, key, body));
    }
    assert_folds_alike(&reader, &world);
}

/// A hold as the script prints it.
fn held(end: HoldEnd) -> String {
    match end {
        HoldEnd::At(moment) => format!("held:{moment}"),
        _ => "held".to_owned(),
    }
}

pub fn assert_folds_alike(reader: &Reader, world: &World) {
    let (ledger, ran) = (world.ledger(SOURCE), reader.run(&[]));
    assert_printed(std::slice::from_ref(&ledger), &ran);
    let voids = ledger.voids.len() + ledger.roster().voids.len();
    assert_eq!(ran.err.matches(" is void: ").count(), voids, "{}", ran.err);
}

/// Asserts that the script printed the snapshots and figures of these ledgers, and no others.
pub fn assert_printed(ledgers: &[Ledger], ran: &Ran) {
    let expected: BTreeSet<String> = ledgers.iter().flat_map(Ledger::live).map(printed).collect();
    let line = |line: &str| {
        line.split('\t')
            .enumerate()
            .filter(|(at, _)| ![1, 2, 3].contains(at))
            .map(|(_, word)| word.to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(ran.out.lines().map(line).collect::<BTreeSet<_>>(), expected, "{}", ran.err);
    for ledger in ledgers {
        let packs = ledger.inventory().count();
        let head = format!(": {} entries, {packs} packs, {} given up\n", ledger.digests.len(), ledger.given_up().len());
        assert!(ran.err.contains(&head), "{head}{}", ran.err);
    }
}

/// A snapshot as the script prints it.
fn printed(record: &SnapshotRecord) -> String {
    let state = match record.decision {
        Some(Decision::Rejected) => "rejected",
        _ if record.is_clean() => "clean",
        _ => "suspect",
    };
    let holds = [record.holds.admin, record.holds.maintainer].into_iter().flatten().map(held);
    let words = [record.id.to_string(), state.to_owned()].into_iter().chain(holds).chain(record.tags.iter().cloned());
    words.collect::<Vec<_>>().join(" ")
}

/// One signature of a stolen key would otherwise stop both readers for ever. What is announced is passed over.
#[test]
fn both_readers_pass_over_what_they_do_not_know() {
    let world = backed_up(2);
    let Some(reader) = Reader::new() else { return };
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    let tag = Tag { snapshot: Digest::new([1; 32]), tag: "x".to_owned(), change: TagChange::Put };
    let sign = |key: &Identity, old: &str, new: &str| {
        let place = world.ledger(SOURCE).next_place().expect("a place");
        let (name, body) = (Name::Ledger(place.source, place.number), EntryBody::Tag(tag.clone()));
        let text = serde_json::to_string(&Entry { place, written: world.env.now(), body }).expect("JSON");
        put(&world, &name, crate::forms::signed(key, Entry::FAMILY, &text.replacen(old, new, 1)));
    };
    let state = |key: &Identity, old: &str, new: &str| {
        let head = world.repository().roster().head();
        let feature = RosterStatement::Feature(Feature { name: "x".to_owned() });
        let entry = RosterEntry {
            repository: world.repository().id(),
            number: head.number + 1,
            previous: head.sha256,
            written: world.env.now(),
            statements: vec![feature],
        };
        let text = serde_json::to_string(&entry).expect("JSON").replacen(old, new, 1);
        put(&world, &Name::Roster(entry.number), crate::forms::signed(key, RosterEntry::FAMILY, &text));
    };
    let sign_all = || {
        for role in [Role::Operator, Role::Maintainer, Role::Auditor] {
            let key = world.key(role);
            for new in ["\"dream\"", "\"dreams:dream\"", "\"dreams:dream:dream\""] {
                sign(&key, "\"tag\"", new);
                state(&key, "\"feature\"", new);
            }
            sign(&key, "\"format\":1", "\"format\":2");
            state(&key, "\"format\":1", "\"format\":2");
        }
    };
    sign_all();
    assert_folds_alike(&reader, &world);
    let voids = || (world.ledger(SOURCE).voids.len(), world.repository().roster().voids.len());
    assert_eq!((world.ledger(SOURCE).live().count(), voids()), (2, (12, 3)));
    for name in ["dreams", "format-2"] {
        let feature = Feature { name: name.to_owned() };
        force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Feature(feature));
    }
    sign_all();
    assert_folds_alike(&reader, &world);
    // Of the second round, only entries of the auditor and of kinds that belong to no feature are void.
    assert_eq!((world.ledger(SOURCE).live().count(), voids()), (2, (12 + 8, 3)));
    let err = reader.run(&[]).err;
    assert!(err.contains("feature dreams is announced") && err.contains("feature format-2 is announced"), "{err}");
    for name in ["dreams", "format-2"] {
        for role in [Role::Admin, Role::Recovery] {
            let feature = Feature { name: name.to_owned() };
            force_statement(&world, &world.key(role), |_| RosterStatement::Withdraw(feature));
        }
    }
    sign_all();
    assert_folds_alike(&reader, &world);
    assert_eq!((world.ledger(SOURCE).live().count(), voids()), (2, (12 + 8 + 12, 3 + 2 + 3)));
    assert!(!reader.run(&[]).err.contains("is announced"));
    // The last four of the second round are the auditor's.
    assert_eq!(world.ledger(SOURCE).warnings_at_head().len(), 4 + 12);
}

/// A thief with the key of an operator of all sources adds a source with the name of another one, and a smaller id.
#[test]
fn both_readers_give_a_name_to_its_first_source() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let (main, other) = (world.source(SOURCE), SourceId::new([0; 16]));
    let label = |source: SourceId, name: &str| {
        world.unlock(Role::Auditor).structure(source, Epoch(1)).expect("keys").seal_label(&*world.env, name)
    };
    let add = |role, source: SourceId, name: &str| {
        let label = label(source, name);
        let added = AddSource { source, epoch: Epoch(1), label, group: None };
        force_statement(&world, &world.key(role), |_| RosterStatement::Source(added));
    };
    let rename = |source: SourceId, name: &str| {
        let renamed = RenameSource { source, epoch: Epoch(1), label: label(source, name) };
        force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Rename(renamed));
    };
    let assert_named = |expected: &[(SourceId, &str)]| {
        let admin = world.unlock(Role::Admin);
        let names = admin.names();
        let err = reader.run(ADMIN).err;
        for source in world.repository().roster().sources.keys() {
            let name = expected.iter().find(|(named, _)| named == source).map(|(_, name)| *name);
            assert_eq!(names.name(*source), name);
            let shown = name.map_or_else(|| source.to_string(), str::to_owned);
            assert!(err.contains(&format!("source {shown}: ")), "{shown}: {err}");
        }
        assert_eq!(err.matches("was given the name").count(), names.findings().count(), "{err}");
    };
    add(Role::Operator, other, SOURCE);
    assert_named(&[(main, SOURCE)]);
    assert_eq!(world.source(SOURCE), main);
    // Its label is the id of another source.
    add(Role::Operator, SourceId::new([1; 16]), &main.to_string());
    assert_named(&[(main, SOURCE)]);
    assert_eq!(world.unlock(Role::Admin).find_source(Some(&main.to_string())).expect("an id"), main);
    // The name becomes free, and only an admin gives it again.
    rename(main, "first");
    add(Role::Operator, SourceId::new([2; 16]), SOURCE);
    assert_named(&[(main, "first")]);
    rename(other, SOURCE);
    assert_named(&[(main, "first"), (other, SOURCE)]);
    let retire = RetireSource { source: main, reason: "a test".to_owned() };
    force(&world, &world.key(Role::Maintainer), EntryBody::Prune(Prune { packs: vec![], manifests: vec![] }));
    force_statement(&world, &world.key(Role::Admin), |_| RosterStatement::Retire(retire));
    rename(main, "again");
    rename(SourceId::new([2; 16]), "first");
    assert_named(&[(other, SOURCE), (SourceId::new([2; 16]), "first")]);
    assert_closed(&reader, &world, main);
}

/// Nothing is added to a retired source, and only an admin forgets in it.
fn assert_closed(reader: &Reader, world: &World, main: SourceId) {
    let ledger = Ledger::load(&world.repository(), main).expect("folds");
    let snapshot = ledger.newest().expect("a snapshot").clone();
    let mut image = Snapshot::new(
        Moment(snapshot.snapshot.source_clock.0 + 1),
        snapshot.snapshot.manifest,
        SessionId::new([9; 16]),
        Epoch(1),
    );
    image.packs = vec![];
    let forget = || EntryBody::Forget(Forget { snapshots: vec![snapshot.id], reason: "a test".to_owned() });
    for (role, body) in
        [(Role::Operator, EntryBody::Snapshot(image)), (Role::Maintainer, forget()), (Role::Admin, forget())]
    {
        let ledger = Ledger::load(&world.repository(), main).expect("folds");
        let place = ledger.next_place().expect("a place");
        let entry = Entry { place, written: world.env.now(), body };
        put(world, &Name::Ledger(main, entry.place.number), signed(&world.key(role), &entry));
    }
    let ledger = Ledger::load(&world.repository(), main).expect("folds");
    assert_eq!((ledger.voids.len(), ledger.live().count()), (2, 2));
    let ran = reader.run(&[]);
    assert!(
        ran.err.matches(" is void: ").count() == 2 && ran.out.matches(&main.to_string()).count() == 2,
        "{}",
        ran.err
    );
}

/// A tag of 64 hex digits would otherwise hide the snapshot with that id.
#[test]
fn both_readers_ignore_tags_that_look_like_ids() {
    let Some((reader, world)) = with_three_snapshots() else { return };
    let ledger = world.ledger(SOURCE);
    let ids: Vec<_> = ledger.live().map(|record| record.id).collect();
    let EntryBody::Snapshot(image) = entries(&world).swap_remove(0) else { panic!("a snapshot") };
    let tags = [
        ids[0].to_string(),
        ids[0].to_string()[..9].to_uppercase(),
        "latest".to_owned(),
        "latest~1".to_owned(),
        "kept".to_owned(),
    ];
    force(&world, &world.key(Role::Operator), EntryBody::Snapshot(Snapshot { tags: tags.to_vec(), ..image }));
    for tag in [ids[0].to_string(), "latest".to_owned(), "abcd".to_owned()] {
        let tag = Tag { snapshot: ids[1], tag, change: TagChange::Put };
        force(&world, &world.key(Role::Maintainer), EntryBody::Tag(tag));
    }
    let ledger = world.ledger(SOURCE);
    assert!(ledger.voids.is_empty());
    let found = |name: &str| Selector::parse(name).find(&ledger).expect("a snapshot").id;
    assert_eq!((found(&ids[0].to_string()), found(&ids[0].to_string()[..9])), (ids[0], ids[0]));
    assert_eq!(found("kept"), ledger.newest().expect("a snapshot").id);
    assert_folds_alike(&reader, &world);
}
