//! Both readers accept the same forms of every member of every signed statement: each member is replaced by values of
//! other types, and by other forms of the same value, and the statement is signed again.

use std::collections::BTreeSet;
use std::fs;

use data_encoding::BASE64;
use serde_json::{Value, json};
use sidekeep::base::id::{Digest, Epoch, GroupId, KeyId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::crypto::role::Identity;
use sidekeep::format::copy::CopyMark;
use sidekeep::format::dsse::{Envelope, Predicate};
use sidekeep::format::entry::{ChainPlace, Entry, EntryBody, Erase, Numbered, ReplacedManifest, Revoke};
use sidekeep::format::name::Name;
use sidekeep::format::report::SignedReport;
use sidekeep::format::roster::{
    AddGrant, AddSource, CloseEpoch, Enrol, Feature, OpenEpoch, RenameSource, RetireSource, RevokeKey, RosterEntry,
    RosterStatement,
};

use crate::fuzz::mutate::Mutator;
use crate::reader::Reader;
use crate::support::world::{SOURCE, World, times};
use crate::two_readers::{
    assert_folds_alike, backed_up, copy_mark, damage_report, entries, restore_report, statements,
};

/// JSON texts that take the place of a member.
const OTHERS: [&str; 26] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "-0",
    "1.0",
    "1e2",
    "1001",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "\"\"",
    "\"x\"",
    "\"all\"",
    "\"\\ud800\"",
    "\"2026-11-22T03:00:00Z\"",
    "\"2026-11-22T04:00:00.000000+01:00\"",
    "\"2026-11-31T03:00:00.000000Z\"",
    "\"9999-11-22T03:00:00.000000Z\"",
    "[]",
    "{}",
    "[[]]",
    "{\"a\":1,\"a\":1}",
    "NaN",
];

/// Every member and first element inside, as JSON pointers.
fn pointers(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
        Value::Array(items) => items.first().map(|item| ("0".to_owned(), item)).into_iter().collect(),
        _ => Vec::new(),
    };
    let below = |(name, value): (String, &Value)| {
        let mut all = vec![format!("/{name}")];
        all.extend(pointers(value).into_iter().map(|rest| format!("/{name}{rest}")));
        all
    };
    inside.into_iter().flat_map(below).collect()
}

/// Other texts of the same value, or almost.
fn forms(value: &Value) -> Vec<String> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    match value {
        // The statement and its predicate are around an unknown member.
        Value::Null => vec![nested(62), nested(63), nested(2_000), "1e999".to_owned()],
        Value::Object(members) => vec![json!(members.values().collect::<Vec<_>>()).to_string()],
        Value::Array(items) => {
            let twice: Vec<&Value> = items.iter().chain(items).collect();
            vec![json!(twice).to_string(), json!([value]).to_string()]
        }
        Value::String(text) => {
            let mut forms = vec![json!([text]).to_string()];
            let others = [text.to_uppercase(), format!("{text} "), format!("{text}="), text.chars().skip(2).collect()];
            forms.extend(others.iter().map(|other| json!(other).to_string()));
            forms
        }
        Value::Number(number) => vec![format!("\"{number}\""), format!("{number}.0"), format!("0{number}")],
        Value::Bool(_) => vec![],
    }
}

/// A change of one member.
struct Change {
    pointer: String,
    /// The text that takes its place. `None` removes it.
    other: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.pointer, self.other.as_deref().unwrap_or("removed"))
    }
}

impl Change {
    /// The JSON of a predicate with this change.
    fn of(&self, predicate: &Value) -> String {
        let mut changed = predicate.clone();
        let Some(other) = &self.other else {
            let (parent, name) = self.pointer.rsplit_once('/').expect("a member");
            changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(name);
            return changed.to_string();
        };
        *changed.pointer_mut(&self.pointer).expect("it is there") = json!("@");
        changed.to_string().replacen("\"@\"", other, 1)
    }
}

/// All changes of a predicate, except those that stop readers.
fn changes(predicate: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    for pointer in pointers(predicate) {
        let value = predicate.pointer(&pointer).expect("it is there");
        let others = OTHERS.iter().map(|other| (*other).to_owned()).chain(forms(value));
        for other in others.filter(|other| !stops_readers(&pointer, other)) {
            all.push(Change { pointer: pointer.clone(), other: Some(other) });
        }
        let parent = pointer.rsplit_once('/').expect("a member").0;
        if predicate.pointer(parent).is_some_and(Value::is_object) {
            all.push(Change { pointer, other: None });
        }
    }
    all
}

/// A signed statement with this text as its predicate.
pub fn signed(key: &Identity, family: &str, predicate: &str) -> Vec<u8> {
    let payload = format!(
        "{{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[],\"predicateType\":\"{family}:1\",\
         \"predicate\":{predicate}}}"
    );
    let kind = "application/vnd.in-toto+json";
    let pae = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let (payload, sig) = (BASE64.encode(payload.as_bytes()), BASE64.encode(&key.sign(pae.as_bytes())));
    let signature = json!({"keyid": key.key_id(), "sig": sig});
    json!({"payload": payload, "payloadType": kind, "signatures": [signature]}).to_string().into_bytes()
}

fn store(world: &World, name: &Name, bytes: &[u8]) -> Digest {
    fs::write(world.path("store").join(name.to_string()), bytes).expect("writes");
    Digest::of(bytes)
}

/// The numbers in findings of the script between these words.
fn numbers_between(text: &str, before: &str, after: &str) -> BTreeSet<u64> {
    let lines = text.lines().filter(|line| line.starts_with(before) && line.contains(after));
    let numbers = lines.filter_map(|line| line.split(before).nth(1)?.split([' ', ':']).next()?.parse().ok());
    numbers.collect()
}

fn assert_alike(program: &BTreeSet<u64>, script: &BTreeSet<u64>, what: &[String], first: u64) {
    let differ: Vec<String> = program
        .symmetric_difference(script)
        .map(|number| {
            format!("{}: void for the program: {}", what[(number - first) as usize], program.contains(number))
        })
        .collect();
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), what.len(), differ.join("\n"));
    assert!(program.len() > what.len() / 2 && program.len() < what.len(), "{} of {}", program.len(), what.len());
}

fn reader_of(world: &World) -> Option<Reader> {
    let reader = Reader::new()?;
    std::os::unix::fs::symlink(world.path("store"), reader.sandbox.path("repo")).expect("links");
    Some(reader)
}

/// Changes that stop readers: a roster that does not exist.
fn stops_readers(pointer: &str, other: &str) -> bool {
    let is_text = other.starts_with('"') && !other.contains("ud800");
    let is_number = other.parse::<u64>().is_ok() && !other.starts_with("00");
    match pointer {
        "/roster/number" | "/roster/sha256" => is_number || is_text,
        _ => false,
    }
}

#[test]
fn both_readers_accept_the_same_forms_of_ledger_entries() {
    let world = backed_up(2);
    let Some(reader) = reader_of(&world) else { return };
    let (ledger, written) = (world.ledger(SOURCE), world.env.now());
    let last = ledger.live().next_back().expect("a snapshot").clone();
    let mut place = ledger.next_place().expect("a place");
    let first = place.number;
    let mut bodies = entries(&world);
    bodies.dedup_by(|one, other| one.kind() == other.kind() && one.kind() != "hold");
    let new = last.snapshot.packs[0];
    let manifests = vec![ReplacedManifest { old: Digest::new([70; 32]), new }];
    let (epoch, session, packs, reason) = (Epoch(1), last.snapshot.session, vec![new], "a test".to_owned());
    bodies.push(EntryBody::Erase(Erase { epoch, session, manifests, packs, reason }));
    bodies.push(EntryBody::Revoke(Revoke { key: KeyId::new([1; 16]), reason: RevocationReason::Stolen }));
    let keys = Role::ALL.map(|role| world.key(role));
    let (mut what, mut clock) = (Vec::new(), last.snapshot.source_clock);
    for body in bodies {
        let key = keys.iter().find(|key| body.may_be_signed_by(key.role())).expect("a key");
        let mut entry = serde_json::to_value(Entry { place: place.clone(), written, body }).expect("JSON");
        entry["later"] = json!({"a": null, "b": [{"c": 7}], "d": "text"});
        for change in changes(&entry) {
            clock.0 += 1;
            entry["number"] = place.number.into();
            entry["previous"] = json!(place.previous);
            if entry["kind"] == "snapshot" {
                entry["source_clock"] = json!(clock);
            }
            let bytes = signed(key, Entry::FAMILY, &change.of(&entry));
            place.previous = store(&world, &Name::Ledger(place.source, place.number), &bytes);
            place.number += 1;
            what.push(format!("{} {change}", entry["kind"]));
        }
    }
    let program = world.ledger(SOURCE).voids.iter().map(|(at, _)| at.number).collect();
    let script = numbers_between(&reader.run(&[]).err, "found: entry ", " is void: ");
    assert_alike(&program, &script, &what, first);
    assert_folds_alike(&reader, &world);
}

/// Statements of the kinds that `statements` does not have.
fn more_statements(world: &World) -> Vec<RosterStatement> {
    let other = Identity::generate(&*world.env, Role::Operator, world.repository().id()).public();
    let (key, signing, sealing) = (other.id(), *other.signing.as_bytes(), other.sealing.to_bytes());
    let (source, epoch, label) = (SourceId::new([4; 16]), Epoch(1), vec![7; 40]);
    let sources = Some(SourceScope::Named(vec![source]));
    vec![
        RosterStatement::Enrol(Enrol { key, role: Role::Operator, signing, sealing, label: "new".to_owned(), sources }),
        RosterStatement::Enrol(Enrol {
            key,
            role: Role::Auditor,
            signing,
            sealing,
            label: "new".to_owned(),
            sources: None,
        }),
        RosterStatement::Epoch(OpenEpoch { epoch: Epoch(2), sealing, grants: [(key, Digest::new([1; 32]))].into() }),
        RosterStatement::Grant(AddGrant { epoch, key, sha256: Digest::new([2; 32]) }),
        RosterStatement::Close(CloseEpoch { epoch: Epoch(2), reason: "a test".to_owned() }),
        RosterStatement::Source(AddSource { source, epoch, label, group: Some(GroupId::new([5; 16])) }),
        RosterStatement::Rename(RenameSource { source, epoch, label: vec![7; 40] }),
        RosterStatement::Retire(RetireSource { source, reason: "a test".to_owned() }),
        RosterStatement::Revoke(RevokeKey { key, reason: RevocationReason::Stolen }),
        RosterStatement::Feature(Feature { name: "x".to_owned() }),
    ]
}

#[test]
fn both_readers_accept_the_same_forms_of_roster_entries() {
    let world = backed_up(1);
    let Some(reader) = reader_of(&world) else { return };
    let (admin, repository, written) = (world.key(Role::Admin), world.repository().id(), world.env.now());
    let mut head = world.repository().roster().head();
    let first = head.number + 1;
    let mut all = statements(&world, KeyId::new([1; 16]));
    all.extend(more_statements(&world));
    let mut what = Vec::new();
    for statement in all {
        let (number, previous) = (head.number, head.sha256);
        let entry = RosterEntry { repository, number, previous, written, statements: vec![statement] };
        let mut entry = serde_json::to_value(&entry).expect("JSON");
        entry["later"] = json!({"a": null, "b": [{"c": 7}], "d": "text"});
        for change in changes(&entry) {
            entry["number"] = (head.number + 1).into();
            entry["previous"] = json!(head.sha256);
            if entry["statements"][0]["statement"] == "promote" {
                entry["statements"][0]["roster"] = json!(head);
            }
            let bytes = signed(&admin, RosterEntry::FAMILY, &change.of(&entry));
            let number = head.number + 1;
            head = Numbered { number, sha256: store(&world, &Name::Roster(number), &bytes) };
            what.push(format!("{} {change}", entry["statements"][0]["statement"]));
        }
    }
    let program = world.repository().roster().voids.iter().map(|(number, _)| *number).collect();
    let script = numbers_between(&reader.run(&[]).err, "found: roster entry ", " is void: ");
    assert_alike(&program, &script, &what, first);
    assert_folds_alike(&reader, &world);
}

/// Stores every change of a statement under a number of its own. Returns what each changes, and the numbers of those
/// that the program cannot decode.
fn store_changes<P: Predicate>(
    world: &World,
    key: &Identity,
    statement: &P,
    name: impl Fn(u64) -> Name,
) -> (Vec<String>, BTreeSet<u64>) {
    let mut json = serde_json::to_value(statement).expect("JSON");
    json["later"] = json!({"a": null, "b": [{"c": 7}], "d": "text"});
    let (mut what, mut undecodable) = (Vec::new(), BTreeSet::new());
    for (change, number) in changes(&json).into_iter().zip(2..) {
        json["number"] = number.into();
        let bytes = signed(key, P::FAMILY, &change.of(&json));
        store(world, &name(number), &bytes);
        what.push(change.to_string());
        if Envelope::decode(&bytes).expect("decodes").predicate::<P>().is_err() {
            undecodable.insert(number);
        }
    }
    (what, undecodable)
}

/// Reports and marks are judged only by the script. It refuses all that the program cannot decode, and other ones only if
/// they name another place, key or time.
fn assert_judged_alike(what: &[String], undecodable: &BTreeSet<u64>, script: &BTreeSet<u64>) {
    let other_place = ["/format", "/repository", "/number", "/key", "/roster"];
    let is_elsewhere = |number: &u64| other_place.iter().any(|start| what[*number as usize - 2].starts_with(start));
    let script: BTreeSet<u64> =
        script.iter().filter(|number| undecodable.contains(number) || !is_elsewhere(number)).copied().collect();
    assert_alike(undecodable, &script, what, 2);
}

#[test]
fn both_readers_accept_the_same_forms_of_reports_and_marks() {
    let world = backed_up(1);
    let Some(reader) = reader_of(&world) else { return };
    let (auditor, admin, recovery) = (world.key(Role::Auditor), world.key(Role::Admin), world.key(Role::Recovery));
    let previous = Some(Digest::new([1; 32]));
    for (key, report) in [(&auditor, damage_report(&world, &auditor)), (&admin, restore_report(&world, &admin))] {
        let folder = world.path("store").join(format!("reports/{}", key.key_id()));
        fs::create_dir_all(folder).expect("creates");
        let report = SignedReport { number: 2, previous, ..report };
        let (what, undecodable) = store_changes(&world, key, &report, |number| Name::Report(key.key_id(), number));
        let err = reader.run(&[]).err;
        let script = numbers_between(&err, &format!("found: reports/{}/", key.key_id()), " does not count: ");
        assert_judged_alike(&what, &undecodable, &script);
    }
    fs::create_dir_all(world.path("store").join("copy")).expect("creates");
    let mark = CopyMark { number: 2, previous, ..copy_mark(&world) };
    let (what, undecodable) = store_changes(&world, &recovery, &mark, Name::Copy);
    let script = numbers_between(&reader.run(&[]).err, "found: copy/", " does not count: ");
    assert_judged_alike(&what, &undecodable, &script);
}

/// Mutations of bytes: of the predicate, signed again as a thief with a key can, and of the envelope, as the store can.
const MUTATIONS_OF_A_RUN: u64 = 4000;

/// The store cannot sign, but an envelope has many forms as JSON. Both readers accept the same one.
#[test]
fn both_readers_accept_one_form_of_an_envelope() {
    let world = backed_up(2);
    let Some(reader) = reader_of(&world) else { return };
    let (source, sound) = (world.source(SOURCE), world.ledger(SOURCE).digests.len() as u64);
    let path = world.path("store").join(Name::Ledger(source, sound).to_string());
    let stored = fs::read_to_string(&path).expect("reads");
    let value: Value = serde_json::from_str(&stored).expect("JSON");
    let (payload, signature) = (value["payload"].as_str().expect("text"), value["signatures"][0].to_string());
    let padded = payload.trim_end_matches('=');
    let others = [
        format!("{stored}\n"),
        format!(" {stored}"),
        stored.replacen(':', ": ", 1),
        stored.replacen('{', "{\"a\":1,", 1),
        stored.replacen("payload", "\\u0070ayload", 1),
        stored.replacen("application/vnd", "application\\/vnd", 1),
        stored.replacen(payload, &format!("{padded}===="), 1),
        stored.replacen(&signature, &format!("{signature},{signature}"), 1),
        format!("{{\"signatures\":[{signature}],\"payloadType\":{},\"payload\":\"{payload}\"}}", value["payloadType"]),
        serde_json::to_string_pretty(&value).expect("JSON"),
    ];
    for other in others {
        fs::write(&path, &other).expect("writes");
        assert_eq!(world.ledger(SOURCE).voids.len(), 1, "{other}");
        assert_folds_alike(&reader, &world);
    }
    fs::write(&path, stored).expect("writes");
    assert_eq!(world.ledger(SOURCE).voids.len(), 0);
}

/// Whatever bytes a thief signs or the store alters, both readers count the same entries.
#[test]
#[ignore = "takes minutes"]
fn both_readers_fold_mutated_entries_alike() {
    let world = backed_up(2);
    let Some(reader) = reader_of(&world) else { return };
    let (ledger, written) = (world.ledger(SOURCE), world.env.now());
    let mut place = ledger.next_place().expect("a place");
    let first = place.number;
    let predicate = |place: &ChainPlace, body: &EntryBody| {
        let entry = Entry { place: place.clone(), written, body: body.clone() };
        serde_json::to_vec(&entry).expect("JSON")
    };
    let keys = Role::ALL.map(|role| world.key(role));
    let bodies = entries(&world);
    let texts = bodies.iter().map(|body| predicate(&place, body)).collect();
    let mut mutator = Mutator::new(texts);
    let mut what = Vec::new();
    let rounds = usize::try_from(times(MUTATIONS_OF_A_RUN)).expect("a count");
    for round in 0..rounds {
        let body = &bodies[round % bodies.len()];
        let key = keys.iter().find(|key| body.may_be_signed_by(key.role())).expect("a key");
        // Sound entries in between change what the others are judged by.
        let sound = predicate(&place, body);
        let text = if round % 2 == 0 { sound } else { mutator.changed(&sound) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut bytes = signed(key, Entry::FAMILY, &text);
        if round % 4 == 0 {
            bytes = mutator.changed(&signed(key, Entry::FAMILY, &String::from_utf8_lossy(&predicate(&place, body))));
        }
        place.previous = store(&world, &Name::Ledger(place.source, place.number), &bytes);
        place.number += 1;
        what.push(format!("{} {text}", body.kind()));
    }
    let program: BTreeSet<u64> = world.ledger(SOURCE).voids.iter().map(|(at, _)| at.number).collect();
    assert!((rounds / 20..rounds * 19 / 20).contains(&program.len()), "{} of {rounds} are void", program.len());
    let script = numbers_between(&reader.run(&[]).err, "found: entry ", " is void: ");
    assert_alike(&program, &script, &what, first);
    assert_folds_alike(&reader, &world);
}
