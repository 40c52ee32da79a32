//! Signed statements and the descriptor (`docs/format.md` sections 10 to 12).

use data_encoding::BASE64;
use proptest::prelude::*;
use sidekeep::base::env::Seeded;
use sidekeep::base::id::{ChunkId, CopyId, Digest, Epoch, GroupId, KeyId, RepositoryId, SessionId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::hpke::ReportId;
use sidekeep::crypto::role::{AdminKeys, Identity};
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::announcement::Announcement;
use sidekeep::format::bundle::EntryBundle;
use sidekeep::format::copy::CopyMark;
use sidekeep::format::descriptor::Descriptor;
use sidekeep::format::dsse::{self, Envelope, Predicate, StatementError};
use sidekeep::format::entry::{
    Accept, AcceptLoss, Add, ChainPlace, Entry, EntryBody, Erase, Forget, Hold, HoldEnd, Numbered, ObjectRef, Prune,
    Readmit, Reject, Repack, RepackedPack, ReplacedManifest, Revoke, Snapshot, SnapshotReason, Tag, TagChange,
};
use sidekeep::format::name::Name;
use sidekeep::format::report::{
    BodyContent, BodyRef, DamageProblem, DamagedName, ReportBody, ReportContent, RowBefore, SignedReport,
};
use sidekeep::format::roster::{
    AddGrant, AddSource, CloseEpoch, Enrol, ExtendSources, Feature, LedgerHead, OpenEpoch, Promotion, RenameSource,
    RetireSource, RevokeKey, RosterEntry, RosterStatement, SealedTableName, Thresholds,
};

use crate::vectors::golden;

const REPOSITORY: RepositoryId = RepositoryId::new([0x11; 16]);
const SOURCE: SourceId = SourceId::new([0x22; 16]);
const NOW: Moment = Moment(1_795_316_400_000_000);

fn signer() -> Identity {
    Identity::generate(&Seeded::new(10), Role::Admin, REPOSITORY)
}

fn digest(n: u8) -> Digest {
    Digest::new([n; 32])
}

fn object(n: u8) -> ObjectRef {
    ObjectRef { sha256: digest(n), size: 1 << 24 }
}

/// Signs, stores, reads and verifies `predicate`.
fn round_trip<P: Predicate + PartialEq + std::fmt::Debug>(name: &str, predicate: &P) -> Vec<u8> {
    let signer = signer();
    let written = dsse::encode(predicate, signer.key_id(), |pae| signer.sign(pae)).expect("encodes");
    let committed = golden(name, &written);
    let envelope = Envelope::decode(&committed).expect("decodes");
    assert_eq!(envelope.key(), signer.key_id());
    signer.public().signing.verify(&envelope.pae(), envelope.signature()).expect("verifies");
    assert_eq!(envelope.predicate::<P>().expect("reads"), *predicate);
    committed
}

fn entry(body: EntryBody) -> Entry {
    let place = ChainPlace {
        repository: REPOSITORY,
        source: SOURCE,
        number: 2,
        previous: digest(1),
        roster: Numbered { number: 3, sha256: digest(2) },
    };
    Entry { place, written: NOW, body }
}

fn reason(word: &str) -> SnapshotReason {
    let (found, limit) = (Some(980), Some(200));
    SnapshotReason { reason: word.to_owned(), table: Some(7), found, limit, baseline: Some(digest(10)) }
}

fn snapshot() -> EntryBody {
    let mut snapshot = Snapshot::new(NOW, object(3), SessionId::new([4; 16]), Epoch(1));
    snapshot.packs = vec![object(5), object(6)];
    snapshot.adopted = vec![object(7)];
    snapshot.tags = vec!["before upgrade".to_owned()];
    snapshot.reasons = vec![reason("rows"), SnapshotReason { baseline: None, table: None, ..reason("restore") }];
    snapshot.baselines = vec![digest(10), digest(11)];
    snapshot.proofs = Some(digest(12));
    EntryBody::Snapshot(snapshot)
}

fn lost(number: u64) -> Numbered {
    Numbered { number, sha256: digest(13) }
}

fn bodies() -> Vec<EntryBody> {
    let reason = || "asked for".to_owned();
    let repacked =
        RepackedPack { sha256: digest(9), size: 17, signer: KeyId::new([1; 16]), movers: vec![KeyId::new([2; 16])] };
    vec![
        snapshot(),
        EntryBody::Forget(Forget { snapshots: vec![digest(1), digest(2)], reason: reason() }),
        EntryBody::Prune(Prune { packs: vec![digest(5)], manifests: vec![digest(3)] }),
        EntryBody::Repack(Repack { epoch: Epoch(1), packs: vec![digest(5)], added: vec![repacked] }),
        EntryBody::Accept(Accept { snapshot: digest(1), reason: reason() }),
        EntryBody::Reject(Reject { snapshot: digest(1), reason: reason() }),
        EntryBody::AcceptLoss(AcceptLoss { lost: vec![lost(7), lost(15)], reason: reason() }),
        EntryBody::Hold(Hold { snapshot: digest(1), end: HoldEnd::At(NOW), reason: reason() }),
        EntryBody::Hold(Hold { snapshot: digest(1), end: HoldEnd::Never, reason: reason() }),
        EntryBody::Hold(Hold { snapshot: digest(1), end: HoldEnd::Now, reason: reason() }),
        EntryBody::Tag(Tag { snapshot: digest(1), tag: "monthly".to_owned(), change: TagChange::Put }),
        EntryBody::Erase(Erase {
            epoch: Epoch(1),
            session: SessionId::new([5; 16]),
            manifests: vec![ReplacedManifest { old: digest(3), new: object(8) }],
            packs: vec![object(9)],
            reason: reason(),
        }),
        EntryBody::Revoke(Revoke { key: KeyId::new([1; 16]), reason: RevocationReason::Stolen }),
        EntryBody::Tag(Tag { snapshot: digest(1), tag: "monthly".to_owned(), change: TagChange::Remove }),
        EntryBody::Add(Add {
            session: SessionId::new([4; 16]),
            epoch: Epoch(1),
            packs: vec![object(5)],
            adopted: vec![object(7)],
        }),
        EntryBody::Readmit(Readmit {
            snapshots: vec![digest(1)],
            manifests: vec![digest(3)],
            packs: vec![digest(5), digest(6)],
            reason: reason(),
        }),
    ]
}

#[test]
fn ledger_entries_match_the_vectors() {
    for (at, body) in bodies().into_iter().enumerate() {
        let entry = entry(body);
        round_trip(&format!("ledger-{at:02}-{}.json", entry.body.kind()), &entry);
    }
}

fn thresholds(table: Option<SealedTableName>, limits: &[(&str, u16)]) -> RosterStatement {
    let limits = limits.iter().map(|(word, limit)| ((*word).to_owned(), *limit)).collect();
    RosterStatement::Thresholds(Thresholds { source: SOURCE, table, limits, reason: "asked for".to_owned() })
}

fn heads(sources: &[u8]) -> Vec<LedgerHead> {
    let head = |n: &u8| LedgerHead { source: SourceId::new([*n; 16]), number: 5, sha256: digest(*n) };
    sources.iter().map(head).collect()
}

fn promotion(roster: Numbered, sources: &[u8]) -> Promotion {
    Promotion { mark: digest(3), roster, ledgers: heads(sources), reason: "the store burned down".to_owned() }
}

#[test]
fn roster_entries_match_the_vectors() {
    let public = signer().public();
    let (signing, sealing) = (*public.signing.as_bytes(), public.sealing.to_bytes());
    let key = public.id();
    let enrol =
        |role, sources| RosterStatement::Enrol(Enrol { key, role, signing, sealing, label: "Ana".to_owned(), sources });
    let first = RosterEntry {
        repository: REPOSITORY,
        number: 1,
        previous: digest(1),
        written: NOW,
        statements: vec![
            enrol(Role::Admin, None),
            RosterStatement::Epoch(OpenEpoch { epoch: Epoch(1), sealing, grants: [(key, digest(2))].into() }),
        ],
    };
    round_trip("roster-1.json", &first);
    let second = RosterEntry {
        number: 2,
        statements: vec![
            enrol(Role::Operator, Some(SourceScope::Named(vec![SOURCE]))),
            RosterStatement::Grant(AddGrant { epoch: Epoch(1), key, sha256: digest(3) }),
            RosterStatement::Source(AddSource { source: SOURCE, epoch: Epoch(1), label: vec![1, 2, 3], group: None }),
            RosterStatement::Close(CloseEpoch { epoch: Epoch(1), reason: "lost".to_owned() }),
            RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen }),
            RosterStatement::Feature(Feature { name: "journal".to_owned() }),
            RosterStatement::Withdraw(Feature { name: "journal".to_owned() }),
        ],
        ..first.clone()
    };
    round_trip("roster-2.json", &second);

    let forged = RosterEntry {
        statements: vec![RosterStatement::Enrol(Enrol {
            key: KeyId::new([0; 16]),
            role: Role::Admin,
            signing,
            sealing,
            label: String::new(),
            sources: None,
        })],
        ..first
    };
    assert!(matches!(read_back(&forged), Err(StatementError::Invalid { .. })));
}

#[test]
fn later_statements_of_the_roster_match_the_vector() {
    let key = signer().key_id();
    let third = RosterEntry {
        number: 3,
        previous: digest(9),
        statements: vec![
            RosterStatement::Extend(ExtendSources { key, sources: SourceScope::Named(vec![SOURCE]) }),
            RosterStatement::Extend(ExtendSources { key, sources: SourceScope::All }),
            RosterStatement::Source(AddSource {
                source: SOURCE,
                epoch: Epoch(1),
                label: vec![1, 2, 3],
                group: Some(GroupId::new([7; 16])),
            }),
            RosterStatement::Rename(RenameSource { source: SOURCE, epoch: Epoch(1), label: vec![1, 2, 3] }),
            RosterStatement::Retire(RetireSource { source: SOURCE, reason: "replaced".to_owned() }),
            thresholds(None, &[("rows", 200), ("damage", 1)]),
            thresholds(Some(SealedTableName { epoch: Epoch(1), name: vec![4, 5] }), &[]),
            RosterStatement::AcceptLoss(AcceptLoss { lost: vec![lost(2)], reason: "the store lost it".to_owned() }),
            RosterStatement::Promote(promotion(Numbered { number: 2, sha256: digest(9) }, &[1, 2])),
        ],
        repository: REPOSITORY,
        written: NOW,
    };
    round_trip("roster-3.json", &third);
    let wrong = |statement| RosterEntry { statements: vec![statement], ..third.clone() };
    for statement in [
        thresholds(None, &[("rows", 1001)]),
        RosterStatement::Promote(promotion(Numbered { number: 3, sha256: digest(9) }, &[])),
        RosterStatement::Promote(promotion(Numbered { number: 2, sha256: digest(8) }, &[])),
        RosterStatement::Promote(promotion(Numbered { number: 2, sha256: digest(9) }, &[2, 1])),
        RosterStatement::Promote(promotion(Numbered { number: 2, sha256: digest(9) }, &[1, 1])),
        RosterStatement::AcceptLoss(AcceptLoss { lost: vec![lost(2), lost(0)], reason: String::new() }),
        RosterStatement::Feature(Feature { name: "Journal".to_owned() }),
        RosterStatement::Withdraw(Feature { name: "a".repeat(33) }),
    ] {
        assert!(read_back(&wrong(statement.clone())).is_err(), "{statement:?}");
    }
}

fn read_back<P: Predicate>(predicate: &P) -> Result<P, StatementError> {
    let bytes = dsse::encode(predicate, KeyId::new([0; 16]), |_| [0; 64]).expect("encodes");
    Envelope::decode(&bytes).expect("decodes").predicate()
}

#[test]
fn session_announcements_match_the_vectors() {
    let admin = AdminKeys::create_epoch(&Seeded::new(1), REPOSITORY, Epoch(1));
    let structure = admin.structure().source(SOURCE).expect("every source");
    let ids = admin.ids().source(&structure).expect("an id key");
    let (keys, wrap) =
        SessionKeys::create(&Seeded::new(2), &admin.restore_public(), &structure, &ids).expect("creates");
    let first = Announcement {
        repository: REPOSITORY,
        source: SOURCE,
        session: keys.session(),
        number: 1,
        epoch: Epoch(1),
        written: NOW,
        wrap: Some(wrap),
        packs: vec![object(1)],
    };
    round_trip("session-1.json", &first);
    round_trip("session-2.json", &Announcement { number: 2, wrap: None, ..first.clone() });
    for wrong in [
        Announcement { number: 2, ..first.clone() },
        Announcement { wrap: None, ..first.clone() },
        Announcement { session: SessionId::new([9; 16]), ..first.clone() },
    ] {
        assert!(read_back(&wrong).is_err());
    }
    let empty = Announcement { packs: vec![], ..first };
    assert!(dsse::encode(&empty, KeyId::new([0; 16]), |_| [0; 64]).is_err());
}

fn report(number: u64, content: ReportContent) -> SignedReport {
    SignedReport {
        repository: REPOSITORY,
        key: signer().key_id(),
        number,
        previous: (number > 1).then_some(digest(1)),
        roster: Numbered { number: 3, sha256: digest(2) },
        written: NOW,
        source: SOURCE,
        plan: None,
        concerns: vec![digest(4)],
        content,
        body: None,
    }
}

fn damaged(problem: DamageProblem, frames: usize) -> DamagedName {
    let name = Name::Pack(SOURCE, digest(5)).to_string();
    DamagedName { name, problem, frames: vec![ChunkId::new([6; 20]); frames] }
}

#[test]
fn reports_match_the_vectors() {
    let problems =
        [damaged(DamageProblem::Missing, 0), damaged(DamageProblem::Altered, 0), damaged(DamageProblem::Frames, 2)];
    round_trip("report-1.json", &report(1, ReportContent::Damage(problems.to_vec())));
    let body = BodyRef { epoch: Epoch(1), sha256: digest(7), size: 4096 };
    let restore = SignedReport { plan: Some(digest(8)), body: Some(body), ..report(2, ReportContent::Restore) };
    let stored = round_trip("report-2.json", &restore);
    round_trip("report-3.json", &report(3, ReportContent::Other("drill".to_owned())));
    // What the objects of another kind are is not for this version to judge.
    for (old, new) in [("\"kind\":\"restore\"", "\"kind\":\"drill\""), ("\"objects\":[]", "\"objects\":{\"a\":1}")] {
        let other = edited(&edited(&stored, old, new), "\"kind\":", "\"kind\":\"drill\",\"was\":");
        let read: SignedReport = Envelope::decode(&other).expect("decodes").predicate().expect("reads");
        assert_eq!(read.content, ReportContent::Other("drill".to_owned()));
    }
    for wrong in [
        report(0, ReportContent::Restore),
        SignedReport { previous: None, ..report(2, ReportContent::Restore) },
        SignedReport { previous: Some(digest(1)), ..report(1, ReportContent::Restore) },
        report(1, ReportContent::Damage(vec![])),
        report(1, ReportContent::Damage(vec![damaged(DamageProblem::Frames, 0)])),
        report(1, ReportContent::Damage(vec![damaged(DamageProblem::Missing, 1)])),
    ] {
        assert!(read_back(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn marks_of_copies_match_the_vectors() {
    let first = CopyMark {
        repository: REPOSITORY,
        copy: CopyId::new([8; 16]),
        number: 1,
        previous: None,
        written: NOW,
        place: "cellar".to_owned(),
        roster: Numbered { number: 3, sha256: digest(2) },
        ledgers: heads(&[1, 2]),
    };
    round_trip("copy-1.json", &first);
    round_trip("copy-2.json", &CopyMark { number: 2, previous: Some(digest(1)), ..first.clone() });
    for wrong in [
        CopyMark { number: 0, ..first.clone() },
        CopyMark { number: 2, ..first.clone() },
        CopyMark { place: "a\nb".to_owned(), ..first.clone() },
        CopyMark { place: "a".repeat(257), ..first.clone() },
        CopyMark { ledgers: heads(&[2, 1]), ..first },
    ] {
        assert!(read_back(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_body_of_a_report_matches_the_vector() {
    let admin = AdminKeys::create_epoch(&Seeded::new(1), REPOSITORY, Epoch(1));
    let (key, epoch, number) = (signer().key_id(), Epoch(1), 2);
    let content = BodyContent {
        user: Some("ana".to_owned()),
        reason: "asked for".to_owned(),
        before: vec![RowBefore { table: 7, row: vec![2, 4, 2] }],
    };
    let id = ReportId { repository: REPOSITORY, epoch, key, number };
    let sealed = admin.restore_public().seal_report(&Seeded::new(9), &id, &content.encode()).expect("seals");
    let body = ReportBody { repository: REPOSITORY, epoch, key, number, sealed };
    let committed = golden("body.bin", &body.encode().expect("is small"));
    let read = ReportBody::decode(&committed).expect("decodes");
    assert_eq!(read, body);
    let opened = admin.open_report(&id, &read.sealed).expect("opens");
    assert_eq!(BodyContent::decode(&opened).expect("reads"), content);
    assert!(admin.open_report(&ReportId { number: 3, ..id }, &read.sealed).is_err(), "a body belongs to one report");
    let longer = BodyContent { user: Some("anna".to_owned()), ..content };
    assert_eq!(longer.encode().len(), opened.len(), "padding hides the length");
}

/// Entries of a ledger from number 1, each naming the one before.
fn chain(len: u64) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for number in 1..=len {
        let previous = entries.last().map_or(digest(1), |last| Digest::of(last));
        let tag = EntryBody::Tag(Tag { snapshot: digest(1), tag: format!("t{number}"), change: TagChange::Put });
        let entry = entry(tag);
        let place = ChainPlace { number, previous, ..entry.place };
        let signer = signer();
        let bytes = dsse::encode(&Entry { place, ..entry }, signer.key_id(), |pae| signer.sign(pae));
        entries.push(bytes.expect("encodes"));
    }
    entries
}

#[test]
fn a_bundle_matches_the_vector_and_its_entries_are_chained() {
    let entries = chain(4);
    let bundle = EntryBundle { repository: REPOSITORY, source: Some(SOURCE), first: 2, entries: entries[1..].to_vec() };
    let committed = golden("bundle.bin", &bundle.encode().expect("is small"));
    let read = EntryBundle::decode(&committed).expect("decodes");
    assert_eq!(read, bundle);
    assert_eq!(read.last(), Some(Numbered { number: 4, sha256: Digest::of(&entries[3]) }));
    assert_eq!(read.name(&committed), Name::Bundle(SOURCE, Digest::of(&committed)));
    let with = |first: u64, entries: Vec<Vec<u8>>| {
        let bytes = EntryBundle { first, entries, ..bundle.clone() }.encode().expect("is small");
        EntryBundle::decode(&bytes)
    };
    assert!(with(1, vec![b"litter".to_vec()]).is_ok(), "only the first may be anything");
    assert!(with(4, vec![entries[3].clone()]).is_ok());
    for (first, entries) in [
        (2, vec![]),
        (0, vec![entries[1].clone()]),
        (u64::MAX, entries[1..].to_vec()),
        (3, entries[1..].to_vec()),
        (2, vec![entries[1].clone(), entries[3].clone()]),
        (3, vec![entries[2].clone(), b"litter".to_vec()]),
    ] {
        assert!(with(first, entries).is_err(), "{first}");
    }
    let roster = EntryBundle { source: None, ..bundle };
    assert!(EntryBundle::decode(&roster.encode().expect("is small")).is_err(), "entries of a ledger");
    assert!(EntryBundle::decode(&committed[..committed.len() - 1]).is_err());
}

#[test]
fn the_descriptor_matches_the_vector() {
    let descriptor = Descriptor { repository: REPOSITORY, created: NOW };
    let committed = golden("sidekeep.json", &descriptor.encode());
    assert_eq!(Descriptor::decode(&committed).expect("decodes"), descriptor);
}

/// A stored statement with a changed payload.
fn edited(stored: &[u8], old: &str, new: &str) -> Vec<u8> {
    let mut envelope: serde_json::Value = serde_json::from_slice(stored).expect("JSON");
    let payload = BASE64.decode(envelope["payload"].as_str().expect("text").as_bytes()).expect("base64");
    let payload = String::from_utf8(payload).expect("UTF-8");
    let changed = payload.replacen(old, new, 1);
    assert_ne!(payload, changed, "{old}");
    envelope["payload"] = BASE64.encode(changed.as_bytes()).into();
    serde_json::to_vec(&envelope).expect("JSON")
}

fn stored(body: EntryBody) -> Vec<u8> {
    dsse::encode(&entry(body), KeyId::new([0; 16]), |_| [0; 64]).expect("encodes")
}

fn edited_entry(body: EntryBody, old: &str, new: &str) -> Result<Entry, StatementError> {
    Envelope::decode(&edited(&stored(body), old, new)).expect("decodes").predicate()
}

#[test]
fn entries_and_statements_of_a_later_version_are_extensions() {
    let forget = || bodies().swap_remove(1);
    for (old, new, what) in [
        ("\"kind\":\"forget\",\"snapshots\"", "\"kind\":\"dream\",\"nights\"", "entry kind \"dream\""),
        ("\"format\":1", "\"format\":2", "format 2"),
        ("urn:sidekeep:ledger:1", "urn:sidekeep:ledger:2", "format 2"),
    ] {
        let read = edited_entry(forget(), old, new).expect("its place can be read");
        assert_eq!(read.place, entry(forget()).place);
        assert!(matches!(&read.body, EntryBody::Unlisted(unlisted) if unlisted.what == what));
        assert!(dsse::encode(&read, KeyId::new([0; 16]), |_| [0; 64]).is_err());
    }
    let roster = RosterEntry {
        repository: REPOSITORY,
        number: 2,
        previous: digest(1),
        written: NOW,
        statements: vec![RosterStatement::Feature(Feature { name: "x".to_owned() })],
    };
    let bytes = dsse::encode(&roster, KeyId::new([0; 16]), |_| [0; 64]).expect("encodes");
    let bytes = edited(&bytes, "\"statement\":\"feature\"", "\"statement\":\"wish\"");
    let read: RosterEntry = Envelope::decode(&bytes).expect("decodes").predicate().expect("its place can be read");
    let [RosterStatement::Unlisted(wish)] = &read.statements[..] else { panic!("unlisted") };
    assert!(wish.what == "roster statement \"wish\"" && !wish.counts(|_| true));
    let bytes = edited(&bytes, "\"statement\":\"wish\"", "\"statement\":\"wishes:one\"");
    let read: RosterEntry = Envelope::decode(&bytes).expect("decodes").predicate().expect("its place can be read");
    let [RosterStatement::Unlisted(wish)] = &read.statements[..] else { panic!("unlisted") };
    assert!(wish.counts(|name| name == "wishes") && !wish.counts(|name| name != "wishes"));
}

#[test]
fn unknown_members_are_ignored_and_missing_or_repeated_ones_refused() {
    let added = edited_entry(snapshot(), "\"suspect\":true", "\"suspect\":true,\"mood\":{\"a\":[1]}");
    assert_eq!(added.expect("reads"), entry(snapshot()));
    let journal = edited_entry(snapshot(), "\"journal\":null", "\"journal\":{\"head\":1}");
    assert_eq!(journal.expect("reads"), entry(snapshot()));
    for (old, new) in [
        ("\"number\":2", "\"number\":2,\"number\":2"),
        ("\"number\":2", "\"number\":0"),
        ("\"number\":2", "\"number\":2.5"),
        ("\"kind\":\"snapshot\"", "\"kind\":\"snapshot\",\"kind\":\"snapshot\""),
        ("\"suspect\":true", "\"suspect\":true,\"suspect\":false"),
        ("\"suspect\":true", "\"suspect\":false"),
        ("\"reasons\":[", "\"reasons\":[7,"),
        ("\"reasons\":[", "\"reasons\":[{\"reason\":\"\"},"),
        ("\"reasons\":[", "\"reasons\":[{\"reason\":\"Rows\"},"),
        ("\"found\":980", "\"found\":1001"),
        ("\"found\":980", "\"found\":true"),
        ("\"table\":7", "\"table\":4294967296"),
        ("\"baselines\":[", "\"baselines\":[7,"),
        ("\"baselines\":", "\"base\":"),
        ("\"proofs\":\"", "\"proofs\":\"0"),
        ("\"suspect\":true,", ""),
        ("\"adopted\"", "\"adapted\""),
        ("\"epoch\":1", "\"epoch\":-1"),
        ("\"suspect\":true", "\"suspect\":true,\"mood\":1,\"mood\":1"),
        ("\"roster\":{\"number\":3", "\"roster\":{\"mood\":1,\"mood\":2,\"number\":3"),
        ("urn:sidekeep:ledger:1", "urn:sidekeep:ledger:01"),
        ("urn:sidekeep:ledger:1", "urn:sidekeep:ledger:+1"),
    ] {
        assert!(edited_entry(snapshot(), old, new).is_err(), "{new}");
    }
}

#[test]
fn each_role_may_sign_only_its_kinds_of_statements() {
    for body in bodies() {
        let entitled: Vec<Role> = Role::ALL.into_iter().filter(|role| body.may_be_signed_by(*role)).collect();
        let expected: &[Role] = match body.kind() {
            "snapshot" | "add" => &[Role::Operator],
            "hold" => &[Role::Maintainer, Role::Admin, Role::Recovery],
            "accept" | "reject" | "accept_loss" | "erase" | "revoke" | "readmit" => &[Role::Admin, Role::Recovery],
            _ => &[Role::Maintainer],
        };
        assert_eq!(entitled, expected, "{}", body.kind());
    }
    let source = RosterStatement::Source(AddSource { source: SOURCE, epoch: Epoch(1), label: vec![], group: None });
    assert!(source.may_be_signed_by(Role::Operator, true));
    assert!(!source.may_be_signed_by(Role::Operator, false));
    let feature = RosterStatement::Feature(Feature { name: "x".to_owned() });
    assert!(!feature.may_be_signed_by(Role::Operator, true) && feature.may_be_signed_by(Role::Recovery, false));
    let withdraw = RosterStatement::Withdraw(Feature { name: "x".to_owned() });
    assert!(!withdraw.may_be_signed_by(Role::Admin, false) && withdraw.may_be_signed_by(Role::Recovery, false));
}

proptest! {
    #[test]
    fn altered_statements_do_not_verify(at: prop::sample::Index, by in 1u8..=255) {
        let signer = signer();
        let mut bytes = dsse::encode(&entry(snapshot()), signer.key_id(), |pae| signer.sign(pae)).expect("encodes");
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(envelope) = Envelope::decode(&bytes) {
            let _ = envelope.predicate::<Entry>();
            let verified = signer.public().signing.verify(&envelope.pae(), envelope.signature());
            prop_assert!(envelope.key() != signer.key_id() || verified.is_err());
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes: Vec<u8>, text in "\\PC{0,80}", at: prop::sample::Index, body in 0usize..11) {
        let _ = Envelope::decode(&bytes).map(|_| ());
        let _ = Descriptor::decode(&bytes);
        let payload = stored(bodies().swap_remove(body));
        let mut envelope: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
        let mut payload = BASE64.decode(envelope["payload"].as_str().expect("text").as_bytes()).expect("base64");
        let at = at.index(payload.len());
        payload.splice(at..at, text.bytes());
        envelope["payload"] = BASE64.encode(&payload).into();
        let envelope = Envelope::decode(&serde_json::to_vec(&envelope).expect("JSON")).expect("decodes");
        let _ = envelope.predicate::<Entry>();
        let _ = envelope.predicate::<RosterEntry>();
        let _ = envelope.predicate::<Announcement>();
    }
}
