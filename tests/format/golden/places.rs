//! The golden objects of statements whose commands come later (`tests/README.md` has the list): a source whose ledger has
//! every kind of entry, the roster statements about it, bundles, reports, marks of a copy, and names that are reserved.
//! Both readers judge them.

use std::path::Path;

use sidekeep::base::env::Seeded;
use sidekeep::base::id::{CopyId, Digest, Epoch, GroupId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::hpke::ReportId;
use sidekeep::crypto::role::Identity;
use sidekeep::format::bundle::EntryBundle;
use sidekeep::format::copy::CopyMark;
use sidekeep::format::dsse::{Envelope, Predicate, encode};
use sidekeep::format::entry::{
    Accept, AcceptLoss, Add, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, Numbered, ObjectRef, Prune, Readmit,
    Reject, Repack, RepackedPack, Revoke, SnapshotReason, Tag, TagChange,
};
use sidekeep::format::name::Name;
use sidekeep::format::report::{
    BodyContent, BodyRef, DamageProblem, DamagedName, ReportBody, ReportContent, RowBefore, SignedReport,
};
use sidekeep::format::roster::{
    AddGrant, AddSource, ExtendSources, LedgerHead, Promotion, RevokeKey, RosterStatement, SealedTableName, Thresholds,
};
use sidekeep::repo::ledger::{Decision, Ledger};
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::Repository;
use sidekeep::store::{Location, Store};

use crate::forms;
use crate::golden::{golden, key};
use crate::reader::Reader;
use crate::support::sandbox::Sandbox;
use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World, open_key};
use crate::two_readers::{assert_printed, report_of};

/// The source with every kind of entry.
pub const PLACES: &str = "places";

fn reason() -> String {
    "a test".to_owned()
}

fn object(n: u8) -> Digest {
    Digest::new([n; 32])
}

/// Writes the objects into a repository with other sources. Returns the file of the operator whose sources were extended.
pub fn add(world: &World) -> String {
    let source = add_source(world);
    let file = extended_operator(world, source);
    let operator = open_key(&file);
    let writer = Writer { world, source, file: &file, operator };
    writer.snapshots();
    writer.changes();
    writer.loses_an_entry();
    set_thresholds_and_lose_them(world, source);
    writer.append(Role::Maintainer, EntryBody::Forget(Forget { snapshots: vec![writer.id(2)], reason: reason() }));
    report_damage(world, source);
    report_restore(world, source);
    promote(world);
    writer.bundles();
    for name in ["journal/0000000001", "plans/1"] {
        let path = world.path("store").join(source.to_string()).join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        std::fs::write(path, "of a later version").expect("writes");
    }
    file
}

/// Adds the source, as one of a group.
fn add_source(world: &World) -> SourceId {
    let (source, epoch) = (SourceId::new([0x70; 16]), Epoch(1));
    let structure = world.unlock(Role::Admin).structure(source, epoch).expect("keys");
    let (label, group) = (structure.seal_label(&*world.env, PLACES), Some(GroupId::new([0x71; 16])));
    world.state(Role::Admin, vec![RosterStatement::Source(AddSource { source, epoch, label, group })]);
    source
}

/// An operator of one source, whom an admin then gives another one, with a second grant.
fn extended_operator(world: &World, source: SourceId) -> String {
    let file = world.enrol(Role::Operator, Some(SourceScope::Named(vec![world.source(SOURCE)])));
    let (public, epoch, sources) = (open_key(&file).public(), Epoch(1), SourceScope::Named(vec![source]));
    let admin = world.unlock(Role::Admin);
    let keys = admin.admin(epoch, "a grant").expect("an admin");
    let grant = world.grant(public.id(), keys.grant(&*world.env, &public, Role::Operator, &sources).expect("seals"));
    let (key, sha256) = (public.id(), Digest::of(&grant));
    put(world, &Name::Grant(epoch, key, sha256), grant);
    let grant = RosterStatement::Grant(AddGrant { epoch, key, sha256 });
    world.state(Role::Admin, vec![RosterStatement::Extend(ExtendSources { key, sources }), grant]);
    file
}

fn put(world: &World, name: &Name, bytes: Vec<u8>) {
    world.objects().create(name, bytes.into()).expect("creates");
}

fn signed<P: Predicate>(key: &Identity, predicate: &P) -> Vec<u8> {
    encode(predicate, key.key_id(), |message| key.sign(message)).expect("encodes")
}

struct Writer<'a> {
    world: &'a World,
    source: SourceId,
    /// The operator's key file.
    file: &'a str,
    operator: Identity,
}

impl Writer<'_> {
    fn ledger(&self) -> Ledger {
        self.world.ledger(PLACES)
    }

    /// The id of a snapshot, by its position.
    fn id(&self, at: usize) -> Digest {
        self.ledger().snapshots[at].id
    }

    fn append(&self, role: Role, body: EntryBody) -> Numbered {
        self.world.append(role, PLACES, body)
    }

    /// Three snapshots. The second is suspect and accepted, the third is suspect and rejected.
    fn snapshots(&self) {
        let path = self.world.path(PLACES);
        let db = create_service(&path, 3);
        for run in 0..3 {
            db.execute("UPDATE settings SET value = ?1", [run]).expect("a day");
            self.world.try_backup_as(open_key(self.file), PLACES, &path).expect("a snapshot");
            if run > 0 {
                self.suspect(["rows", "word_of_a_later_version"][run as usize - 1]);
            }
            let (snapshot, reason) = (self.id(run as usize), reason());
            match run {
                1 => drop(self.append(Role::Admin, EntryBody::Accept(Accept { snapshot, reason }))),
                2 => drop(self.append(Role::Recovery, EntryBody::Reject(Reject { snapshot, reason }))),
                _ => {}
            }
        }
    }

    /// Writes the newest entry again, with a reason against the snapshot, proofs, and a journal of a later version.
    fn suspect(&self, word: &str) {
        let name = Name::Ledger(self.source, self.ledger().digests.len() as u64);
        let path = self.world.path("store").join(name.to_string());
        let bytes = std::fs::read(&path).expect("reads");
        let mut entry: Entry = Envelope::decode(&bytes).expect("decodes").predicate().expect("an entry");
        let EntryBody::Snapshot(snapshot) = &mut entry.body else { panic!("a snapshot") };
        let (baseline, found, limit) = (Some(self.id(0)), Some(300), Some(200));
        snapshot.baselines.extend(baseline);
        snapshot.reasons.push(SnapshotReason { reason: word.to_owned(), table: Some(1), found, limit, baseline });
        snapshot.proofs = Some(object(12));
        let text = serde_json::to_string(&entry).expect("JSON");
        let text = text.replace("\"journal\":null", "\"journal\":{\"head\":1,\"sha256\":\"later\"}");
        std::fs::write(path, forms::signed(&self.operator, Entry::FAMILY, &text)).expect("writes");
    }

    /// Holds, tags, and entries that change the inventory, as far as nothing is lost by them.
    fn changes(&self) {
        let (first, reason) = (self.id(0), reason());
        let hold = |end| EntryBody::Hold(Hold { snapshot: first, end, reason: reason.clone() });
        let tag = |tag: &str, change| EntryBody::Tag(Tag { snapshot: first, tag: tag.to_owned(), change });
        let ledger = self.ledger();
        let pack = *ledger.inventory().next().expect("a pack");
        let stored = ObjectRef { sha256: pack.digest, size: pack.size };
        let session = ledger.snapshots[0].snapshot.session;
        self.append(Role::Maintainer, hold(HoldEnd::Never));
        self.append(Role::Admin, hold(HoldEnd::At(Moment(1 << 51))));
        self.append(Role::Maintainer, hold(HoldEnd::Never));
        self.append(Role::Maintainer, hold(HoldEnd::Now));
        self.append(Role::Maintainer, tag("first", TagChange::Put));
        self.append(Role::Maintainer, tag("gone", TagChange::Put));
        self.append(Role::Maintainer, tag("gone", TagChange::Remove));
        let add = EntryBody::Add(Add { session, epoch: Epoch(1), packs: vec![stored], adopted: vec![] });
        let place = self.ledger().next_place().expect("a place");
        let written = self.world.env.now();
        let entry = signed(&self.operator, &Entry { place: place.clone(), written, body: add });
        put(self.world, &Name::Ledger(self.source, place.number), entry);
        let (sha256, size, signer) = (pack.digest, pack.size, pack.signer);
        let movers = vec![self.world.key(Role::Maintainer).key_id()];
        let added = vec![RepackedPack { sha256, size, signer, movers }];
        self.append(Role::Maintainer, EntryBody::Repack(Repack { epoch: Epoch(1), packs: vec![object(20)], added }));
        let (packs, manifests) = (vec![object(21)], vec![object(22)]);
        self.append(Role::Maintainer, EntryBody::Prune(Prune { packs, manifests }));
        let (snapshots, reason) = (vec![first], reason.clone());
        self.append(
            Role::Maintainer,
            EntryBody::Forget(Forget { snapshots: snapshots.clone(), reason: reason.clone() }),
        );
        let (manifests, packs) = (vec![object(22)], vec![object(21)]);
        self.append(Role::Admin, EntryBody::Readmit(Readmit { snapshots, manifests, packs, reason: reason.clone() }));
        let (epoch, manifests, packs) = (Epoch(1), vec![], vec![stored]);
        self.append(Role::Admin, EntryBody::Erase(Erase { epoch, session, manifests, packs, reason: reason.clone() }));
        let key = open_key(&self.world.enrol(Role::Operator, Some(SourceScope::Named(vec![self.source])))).key_id();
        self.append(Role::Admin, EntryBody::Revoke(Revoke { key, reason: RevocationReason::Stolen }));
        self.world
            .state(Role::Admin, vec![RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen })]);
    }

    /// The store loses an entry between others, and an admin gives it up.
    fn loses_an_entry(&self) {
        let tag = |tag: &str| {
            let (snapshot, tag) = (self.id(0), tag.to_owned());
            self.append(Role::Maintainer, EntryBody::Tag(Tag { snapshot, tag, change: TagChange::Put }))
        };
        let lost = tag("lost");
        tag("void");
        tag("found");
        remove(self.world, &Name::Ledger(self.source, lost.number));
        let given_up =
            self.append(Role::Admin, EntryBody::AcceptLoss(AcceptLoss { lost: vec![lost], reason: reason() }));
        assert_eq!(given_up.number, lost.number);
    }

    /// Bundles of the ledger and of the first entries of the roster. No bundle goes on where an entry was lost.
    fn bundles(&self) {
        let head = self.ledger().digests.len() as u64;
        let lost = (1..=head).find(|number| self.gives_up(*number)).expect("an entry");
        self.bundle(Some(self.source), (1..lost).map(|number| Name::Ledger(self.source, number)));
        self.bundle(Some(self.source), (lost + 1..head).map(|number| Name::Ledger(self.source, number)));
        self.bundle(None, (1..=3).map(Name::Roster));
    }

    fn stored(&self, name: &Name) -> Vec<u8> {
        self.world.objects().get(name, 1 << 24).expect("reads").to_vec()
    }

    fn gives_up(&self, number: u64) -> bool {
        let entry = Envelope::decode(&self.stored(&Name::Ledger(self.source, number))).expect("decodes");
        matches!(entry.predicate::<Entry>().expect("an entry").body, EntryBody::AcceptLoss(_))
    }

    fn bundle(&self, source: Option<SourceId>, names: impl Iterator<Item = Name>) {
        let names: Vec<Name> = names.collect();
        let (Name::Ledger(_, first) | Name::Roster(first)) = names[0] else { panic!("an entry") };
        let (repository, entries) =
            (self.world.repository().id(), names.iter().map(|name| self.stored(name)).collect());
        let bundle = EntryBundle { repository, source, first, entries };
        let bytes = bundle.encode().expect("is small");
        put(self.world, &bundle.name(&bytes), bytes);
    }
}

fn remove(world: &World, name: &Name) {
    std::fs::remove_file(world.path("store").join(name.to_string())).expect("removes");
}

/// Thresholds of the source and of a table. The store loses the entry after a ledger entry saw it; an admin says so, and
/// says it again.
fn set_thresholds_and_lose_them(world: &World, source: SourceId) {
    let structure = world.unlock(Role::Admin).structure(source, Epoch(1)).expect("keys");
    let table = SealedTableName { epoch: Epoch(1), name: structure.seal_table_name(&*world.env, "contacts") };
    let thresholds = |table, rows| {
        let limits = [("rows".to_owned(), rows), ("damage".to_owned(), 1)].into();
        RosterStatement::Thresholds(Thresholds { source, table, limits, reason: reason() })
    };
    let said = || vec![thresholds(None, 100), thresholds(Some(table.clone()), 1000)];
    world.state(Role::Admin, said());
    let lost = world.repository().roster().head();
    let snapshot = world.ledger(PLACES).snapshots[1].id;
    let tag = Tag { snapshot, tag: "second".to_owned(), change: TagChange::Put };
    world.append(Role::Maintainer, PLACES, EntryBody::Tag(tag));
    remove(world, &Name::Roster(lost.number));
    let loss = RosterStatement::AcceptLoss(AcceptLoss { lost: vec![lost], reason: reason() });
    world.state(Role::Admin, std::iter::once(loss).chain(said()).collect());
}

fn report(world: &World, key: &Identity, source: SourceId, content: ReportContent) -> SignedReport {
    let concerns = vec![world.ledger(PLACES).snapshots[0].id];
    SignedReport { source, concerns, ..report_of(world, key, content) }
}

/// A report of damage, and one of a kind of a later version.
fn report_damage(world: &World, source: SourceId) {
    let auditor = world.key(Role::Auditor);
    let name = Name::Pack(source, object(21)).to_string();
    let damaged = DamagedName { name, problem: DamageProblem::Missing, frames: vec![] };
    let first = signed(&auditor, &report(world, &auditor, source, ReportContent::Damage(vec![damaged])));
    let previous = Some(Digest::of(&first));
    put(world, &Name::Report(auditor.key_id(), 1), first);
    let drill = report(world, &auditor, source, ReportContent::Other("drill".to_owned()));
    let drill = SignedReport { number: 2, previous, ..drill };
    put(world, &Name::Report(auditor.key_id(), 2), signed(&auditor, &drill));
}

/// The record of a restore of one user, with its body.
fn report_restore(world: &World, source: SourceId) {
    let (admin, repository, epoch) = (world.key(Role::Admin), world.repository(), Epoch(1));
    let (key, number) = (admin.key_id(), 1);
    let before = vec![RowBefore { table: 1, row: vec![4, 4, 2, 0] }];
    let content = BodyContent { user: Some("u3@example.org".to_owned()), reason: "asked for".to_owned(), before };
    let id = ReportId { repository: repository.id(), epoch, key, number };
    let restore_key = repository.roster().restore_key(epoch).expect("a key");
    let sealed = restore_key.seal_report(&*world.env, &id, &content.encode()).expect("seals");
    let body = ReportBody { repository: repository.id(), epoch, key, number, sealed }.encode().expect("is small");
    let named = BodyRef { epoch, sha256: Digest::of(&body), size: body.len() as u64 };
    let restore = report(world, &admin, source, ReportContent::Restore);
    let restore = SignedReport { plan: Some(object(8)), body: Some(named), ..restore };
    put(world, &Name::ReportBody(key, named.sha256), body);
    put(world, &Name::Report(key, number), signed(&admin, &restore));
}

/// Two marks of a copy, and the promotion that made it the repository.
fn promote(world: &World) {
    let maintainer = world.key(Role::Maintainer);
    let mark = |number, previous| CopyMark {
        repository: world.repository().id(),
        copy: CopyId::new([0x72; 16]),
        number,
        previous,
        written: world.env.now(),
        place: "cellar".to_owned(),
        roster: world.repository().roster().head(),
        ledgers: heads(world),
    };
    let first = signed(&maintainer, &mark(1, None));
    let second = signed(&maintainer, &mark(2, Some(Digest::of(&first))));
    let (mark, roster, ledgers) = (Digest::of(&second), world.repository().roster().head(), heads(world));
    put(world, &Name::Copy(1), first);
    put(world, &Name::Copy(2), second);
    world.state(Role::Admin, vec![RosterStatement::Promote(Promotion { mark, roster, ledgers, reason: reason() })]);
}

/// The newest entries of all sources.
fn heads(world: &World) -> Vec<LedgerHead> {
    let repository = world.repository();
    let head = |source: &SourceId| {
        let ledger = Ledger::load(&repository, *source).expect("folds");
        let sha256 = *ledger.digests.last()?;
        Some(LedgerHead { source: *source, number: ledger.digests.len() as u64, sha256 })
    };
    repository.roster().sources.keys().filter_map(head).collect()
}

/// All ledgers of a golden repository.
fn ledgers(store: &Path) -> Vec<Ledger> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let location: Location = store.to_str().expect("UTF-8").parse().expect("a location");
    let objects = Objects::new(Store::open(&location).expect("a store"), runtime.handle().clone());
    let repository = Repository::open(objects, std::sync::Arc::new(Seeded::new(1))).expect("opens");
    let load = |source: &SourceId| Ledger::load(&repository, *source).expect("folds");
    repository.roster().sources.keys().map(load).collect()
}

#[test]
fn the_program_judges_every_place() {
    let ledgers = ledgers(&golden("v1").join("store"));
    let places = ledgers.iter().find(|ledger| ledger.source == SourceId::new([0x70; 16])).expect("a source");
    let roster = places.roster();
    assert!(places.voids.is_empty() && places.ignored.is_empty() && roster.voids.is_empty());
    let decisions: Vec<_> = places.snapshots.iter().map(|record| record.decision).collect();
    assert_eq!(decisions, [None, Some(Decision::Accepted), Some(Decision::Rejected)]);
    let suspect = &places.snapshots[1];
    assert!(suspect.is_clean() && suspect.snapshot.is_suspect() && suspect.snapshot.proofs == Some(object(12)));
    assert!(places.snapshots[2].forgotten);
    assert_eq!(places.snapshots[0].tags, ["first", "found"]);
    assert_eq!(suspect.tags, ["second"], "its signer saw a roster entry that is lost");
    let holds = places.snapshots[0].holds;
    assert_eq!((holds.admin, holds.maintainer), (Some(HoldEnd::At(Moment(1 << 51))), None));
    let state = &roster.sources[&places.source];
    assert_eq!((state.group, state.thresholds.len()), (Some(GroupId::new([0x71; 16])), 2));
    assert_eq!(roster.promotions.len(), 1);
    assert_eq!(roster.promotions[0].ledgers.len(), ledgers.len());
}

#[test]
fn an_operator_whose_sources_were_extended_checks_both() {
    let (repository, sandbox) = (golden("v1"), Sandbox::new());
    let (store, key) = (repository.join("store"), key(&sandbox, &repository, "extended"));
    let reach = ["--level", "structure", "--repo", store.to_str().expect("UTF-8"), "--key-file", &key];
    for (source, code) in [(SOURCE, 0), (PLACES, 0), ("other", 5)] {
        let ran = sandbox.run(&[&["verify", "--source", source][..], &reach].concat());
        assert_eq!(ran.code, code, "{source}: {}", ran.out);
    }
}

#[test]
fn a_second_reader_judges_every_place_alike() {
    let Some(reader) = Reader::new() else { return };
    let repository = golden("v1");
    for folder in ["store", "keys"] {
        let name = if folder == "store" { "repo" } else { folder };
        std::os::unix::fs::symlink(repository.join(folder), reader.sandbox.path(name)).expect("links");
    }
    let ledgers = ledgers(&repository.join("store"));
    let keys = ["", "operator", "extended", "maintainer", "auditor", "admin", "recovery"];
    for key in keys {
        let file = format!("keys/{key}.key");
        let args = if key.is_empty() { vec![] } else { vec!["--key-file", &file] };
        let ran = reader.run(&args);
        assert!(ran.code == 0 && !ran.err.contains("found: "), "{key}: {}", ran.err);
        assert_printed(&ledgers, &ran);
        let names_all = !["", "extended"].contains(&key);
        assert_eq!(ran.err.contains("source other:"), names_all, "{key}: {}", ran.err);
        let body = if ["admin", "recovery"].contains(&key) { "asked for" } else { "body sealed" };
        for said in [": damage, no body", ": drill, no body", &format!(": restore, {body}"), "copy, cellar, promoted"] {
            assert!(ran.err.contains(said), "{key}: {said}: {}", ran.err);
        }
    }
}
