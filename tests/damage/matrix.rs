//! The damage matrix: every kind of harm to every kind of object, and how each command reacts. Damage is found and
//! named by the weakest level that can detect it. Data that does not depend on the damaged object restores in full,
//! other data restores except for the rows listed. A new backup repairs what it can.

use std::path::{Path, PathBuf};

use crate::support::sqlite::assert_same_database;
use crate::support::stored_world::StoredWorld;
use crate::support::world::SOURCE;
use crate::support::world::awkward::{day, fill};
use crate::support::world::data::noise;
use crate::support::world::findings::FindingsByKind;
use bytes::Bytes;
use rusqlite::Connection;
use sidekeep::base::finding::{Finding, FindingKind, Severity};
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::format::entry::Numbered;
use sidekeep::ops::error::OpError;
use sidekeep::ops::restore::RestoreReport;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, VerifyLevel, VerifyReport};
use sidekeep::repo::ledger::Ledger;

const RUNS: usize = 3;

/// Snapshots of one source, the database for each, and the objects that each added to the store.
struct History {
    world: StoredWorld,
    image: Vec<(String, Bytes)>,
    databases: Vec<PathBuf>,
    snapshots: Vec<Digest>,
    added: Vec<Vec<String>>,
    /// The database as it is after the last snapshot, for the next backup.
    tomorrow: PathBuf,
}

impl History {
    fn new() -> Self {
        let world = StoredWorld::new();
        let live = world.path("live.sqlite");
        let db = Connection::open(&live).expect("a database");
        fill(&db, 60);
        // A table whose root is in a pack.
        db.execute_batch(
            "CREATE TABLE tall (id INTEGER PRIMARY KEY, body BLOB);
             WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 2000)
             INSERT INTO tall SELECT v, randomblob(200) FROM n;",
        )
        .expect("a table");
        let (mut databases, mut snapshots, mut added) = (Vec::new(), Vec::new(), Vec::new());
        let copy = |name: &str| {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
            let to = world.path(name);
            std::fs::copy(&live, &to).expect("a copy");
            to
        };
        for n in 0..RUNS {
            day(&db, n as i64);
            db.execute("UPDATE tall SET body = randomblob(200) WHERE id = ?1", [1 + 500 * n as i64]).expect("a change");
            let before = world.names();
            snapshots.push(world.try_backup(&live).expect("a snapshot").snapshot.expect("committed"));
            databases.push(copy(&format!("run{n}.sqlite")));
            added.push(world.names().into_iter().filter(|name| !before.contains(name)).collect());
        }
        day(&db, RUNS as i64);
        let tomorrow = copy("tomorrow.sqlite");
        drop(db);
        let image = world.image();
        Self { world, image, databases, snapshots, added, tomorrow }
    }

    /// The object of this kind that a backup run added.
    fn object(&self, kind: &Kind) -> String {
        let added = |run: usize, part: &str, content: Option<u8>| {
            let bytes = |name: &str| &self.image.iter().find(|(stored, _)| stored == name).expect("it was stored").1;
            let is = |name: &&String| {
                name.contains(part) && content.is_none_or(|content| bytes(name.as_str())[68] == content)
            };
            // Of several packs, the largest: another pack of nodes may have only roots or dictionaries.
            let size = |name: &&String| content.map_or(0, |_| bytes(name.as_str()).len());
            self.added[run].iter().filter(is).max_by_key(size).expect("a run adds one").clone()
        };
        match *kind {
            Kind::Descriptor => "sidekeep.json".to_owned(),
            Kind::Roster(n) => format!("roster/{n:010}"),
            Kind::Grant(role) => self.world.grant_name(Epoch(1), self.world.key(role).key_id()).to_string(),
            Kind::Ledger(run) => added(run, "/ledger/", None),
            Kind::Manifest(run) => added(run, "/manifests/", None),
            Kind::Leaves(run) => added(run, "/packs/", Some(1)),
            Kind::Nodes(run) => added(run, "/packs/", Some(2)),
            Kind::Streams(run) => added(run, "/packs/", Some(3)),
            Kind::Index(run) => added(run, "/index/", None),
            Kind::Session(run) => added(run, "/sessions/", None),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Descriptor,
    Roster(u64),
    Grant(Role),
    Ledger(usize),
    Manifest(usize),
    Leaves(usize),
    Nodes(usize),
    Streams(usize),
    Index(usize),
    Session(usize),
}

impl Kind {
    /// Another object of the same kind.
    fn other(self) -> Option<Self> {
        let next = |run: usize| (run + 1) % RUNS;
        Some(match self {
            Self::Descriptor => return None,
            Self::Roster(n) => Self::Roster(3 - n),
            Self::Grant(Role::Admin) => Self::Grant(Role::Operator),
            Self::Grant(_) => Self::Grant(Role::Admin),
            Self::Ledger(run) => Self::Ledger(next(run)),
            Self::Manifest(run) => Self::Manifest(next(run)),
            Self::Leaves(run) => Self::Leaves(next(run)),
            Self::Nodes(run) => Self::Nodes(next(run)),
            Self::Streams(run) => Self::Streams(next(run)),
            Self::Index(run) => Self::Index(next(run)),
            Self::Session(run) => Self::Session(next(run)),
        })
    }

    fn is_pack(self) -> bool {
        matches!(self, Self::Leaves(_) | Self::Nodes(_) | Self::Streams(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Truncate,
    Extend,
    Flip,
    Delete,
    Swap,
    Rename,
    Replace,
    Beside,
}

const HARMS: [Harm; 8] =
    [Harm::Truncate, Harm::Extend, Harm::Flip, Harm::Delete, Harm::Swap, Harm::Rename, Harm::Replace, Harm::Beside];

impl Harm {
    /// Whether the object still exists under its name with the same size.
    fn keeps_size(self) -> bool {
        matches!(self, Self::Flip | Self::Replace)
    }

    fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::Rename)
    }
}

/// The byte in which a bit is flipped: in the first frame of a pack, otherwise in the middle.
fn flipped_byte(kind: Kind, bytes: &[u8]) -> usize {
    if !kind.is_pack() {
        return bytes.len() / 2;
    }
    let table = 70 + 1184;
    let len = u32::from_le_bytes(bytes[table..table + 4].try_into().expect("four bytes"));
    table + 9 + len as usize + 5
}

fn renamed(name: &str) -> String {
    let (head, last) = name.split_at(name.len() - 1);
    format!("{head}{}", if last == "9" { "8" } else { "9" })
}

fn harm(history: &History, kind: Kind, harm: Harm) -> String {
    let world = &history.world;
    let name = history.object(&kind);
    let bytes = world.read(&name);
    match harm {
        Harm::Truncate => world.overwrite(&name, bytes.slice(..bytes.len() - 7)),
        Harm::Extend => world.overwrite(&name, [&bytes[..], b"garbage"].concat().into()),
        Harm::Flip => {
            let mut flipped = bytes.to_vec();
            flipped[flipped_byte(kind, &bytes)] ^= 4;
            world.overwrite(&name, flipped.into());
        }
        Harm::Delete => world.delete(&name),
        Harm::Swap => {
            let other = history.object(&kind.other().expect("there is another"));
            let theirs = world.read(&other);
            world.overwrite(&name, theirs);
            world.overwrite(&other, bytes);
        }
        Harm::Rename => {
            world.overwrite(&renamed(&name), bytes);
            world.delete(&name);
        }
        Harm::Replace => world.overwrite(&name, noise(4, bytes.len()).into()),
        Harm::Beside => world.overwrite(&format!("{name}.bak"), bytes),
    }
    name
}

/// The result of restoring a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Back {
    Equal,
    /// Restored except for what is listed.
    Listed,
    /// The ledger does not have the snapshot.
    Absent,
    /// Failed with an error that names the object.
    Error,
}

struct Cell {
    name: String,
    /// In the order quick, read, structure, deep.
    levels: Vec<Result<VerifyReport, OpError>>,
    /// By backup run.
    backs: Vec<Back>,
    backup: Result<(), OpError>,
    after: Back,
}

impl Cell {
    /// The first letters of the levels that found this with at least this severity.
    fn seen(&self, severity: Severity, object: &str) -> String {
        let sees = |level: &Result<VerifyReport, OpError>| match level {
            Ok(report) => report.findings.iter().any(|found| found.severity <= severity && found.object == object),
            Err(error) => error.to_string().contains(object),
        };
        self.levels.iter().zip("QRSD".chars()).filter(|(level, _)| sees(level)).map(|(_, letter)| letter).collect()
    }
}

fn restore(history: &History, role: Role, snapshot: Selector, expected: &Path) -> Result<Back, OpError> {
    let to = history.world.path("back.sqlite");
    let _ = std::fs::remove_file(&to);
    let report = history.world.try_restore_as(history.world.key(role), SOURCE, snapshot, &to)?;
    if report.damaged().is_empty() {
        assert!(report.refused().is_empty(), "{:?}", report.refused());
        assert_same_database(expected, &to);
        return Ok(Back::Equal);
    }
    assert_accounted(&report);
    Ok(Back::Listed)
}

/// Checks that all rows that were not restored are listed.
fn assert_accounted(report: &RestoreReport) {
    for table in &report.tables {
        let of = format!(" rows of {}:", table.name);
        let lost: u64 = report
            .damaged()
            .iter()
            .filter_map(|line| line.split_once(&of).map(|(rows, _)| rows.parse::<u64>().expect("a number")))
            .sum();
        assert_eq!(table.restored + lost, table.rows, "{}: {:?}", table.name, report.damaged());
    }
}

/// Harms the object and tries every command.
fn try_everything(history: &mut History, kind: Kind, how: Harm) -> Cell {
    let image = history.image.clone();
    history.world.reset(&image);
    let name = harm(history, kind, how);
    let world = &history.world;
    let levels = vec![
        world.verify(None, VerifyLevel::Quick),
        world.verify(None, VerifyLevel::Read),
        world.verify(Some(Role::Auditor), VerifyLevel::Structure),
        world.verify(Some(Role::Admin), VerifyLevel::Deep),
    ];
    let back = |role, selector, expected: &Path| match restore(history, role, selector, expected) {
        Ok(back) => back,
        Err(OpError::NotFound(_)) => Back::Absent,
        Err(error) => {
            let hidden = kind == Kind::Roster(2) && how == Harm::Delete;
            let other = kind.other().filter(|_| how == Harm::Swap).map(|other| history.object(&other));
            let names = |name: &String| error.to_string().contains(name.as_str());
            assert!(
                hidden || names(&name) || other.is_some_and(|other| names(&other)),
                "{kind:?} {how:?}: {error} does not name {name}"
            );
            Back::Error
        }
    };
    let by_id = |run: usize| Selector::Name(history.snapshots[run].to_string());
    let backs = (0..RUNS).map(|run| back(Role::Admin, by_id(run), &history.databases[run])).collect();
    let listed = world.try_repository().and_then(|repository| {
        let source = repository.roster().sources.keys().next().copied();
        source.map(|source| Ledger::load(&repository, source).map(|ledger| ledger.live().count())).transpose()
    });
    assert!(listed.is_ok() || matches!(kind, Kind::Descriptor | Kind::Roster(_)), "{kind:?} {how:?}: {listed:?}");
    let backup = world.try_backup(&history.tomorrow).map(|report| assert!(report.snapshot.is_some()));
    let after = match &backup {
        Ok(()) => back(Role::Admin, Selector::Latest(0), &history.tomorrow),
        Err(_) => Back::Absent,
    };
    let cell = Cell { name, levels, backs, backup, after };
    println!("{kind:?} {how:?}: {:?} backup {:?} after {:?}", cell.backs, cell.backup, cell.after);
    for (level, letter) in cell.levels.iter().zip("QRSD".chars()) {
        match level {
            Ok(report) => {
                for found in &report.findings {
                    println!(
                        "  {letter} {:?} {:?} {} x{}: {}",
                        found.severity, found.kind, found.object, found.count, found.detail
                    );
                }
            }
            Err(error) => println!("  {letter} {error}"),
        }
    }
    cell
}

/// A foreign file changes nothing and is reported.
fn assert_beside(history: &mut History, kind: Kind) {
    let cell = try_everything(history, kind, Harm::Beside);
    assert_eq!(cell.backs, [Back::Equal; RUNS]);
    assert!(cell.backup.is_ok() && cell.after == Back::Equal);
    let foreign = format!("{}.bak", cell.name);
    assert_eq!(cell.seen(Severity::Information, &foreign), "QRSD");
    assert_eq!(cell.seen(Severity::Warning, &foreign), "");
    let all = history.world.verify(None, VerifyLevel::Quick).expect("quick").findings;
    assert!(all.iter().all(|found| found.object == foreign && found.kind == FindingKind::Foreign), "{all:?}");
}

#[test]
fn damage_to_the_descriptor_or_first_roster_entry_is_fatal_and_named() {
    let mut history = History::new();
    for kind in [Kind::Descriptor, Kind::Roster(1)] {
        for how in HARMS.into_iter().filter(|how| *how != Harm::Beside) {
            if how == Harm::Swap && kind.other().is_none() {
                continue;
            }
            let cell = try_everything(&mut history, kind, how);
            assert_eq!(cell.seen(Severity::Damage, &cell.name), "QRSD", "{kind:?} {how:?}");
            assert_eq!(cell.backs, [Back::Error; RUNS], "{kind:?} {how:?}");
            assert!(cell.backup.expect_err("fails").to_string().contains(&cell.name));
            let error = history.world.try_repository().err().expect("does not open");
            let report = verify::unopened(error, VerifyLevel::Quick).expect("it is damage");
            assert!(report.has_damage() && report.findings[0].object == cell.name, "{report:?}");
        }
        assert_beside(&mut history, kind);
    }
}

#[test]
fn damage_to_the_newest_roster_entry_is_named() {
    let mut history = History::new();
    for how in HARMS.into_iter().filter(|how| !matches!(how, Harm::Beside | Harm::Swap)) {
        let kind = Kind::Roster(2);
        let cell = try_everything(&mut history, kind, how);
        let unknown = format!("{}/", cell_source(&history));
        assert_eq!(cell.seen(Severity::Damage, &unknown), "QRSD", "{how:?}");
        let named = cell.seen(Severity::Damage, &cell.name);
        assert_eq!(named, if how == Harm::Delete { "" } else { "QRSD" }, "{how:?}");
        assert_eq!(cell.backs, [Back::Error; RUNS]);
        assert!(cell.backup.is_err());
    }
}

fn cell_source(history: &History) -> String {
    history.object(&Kind::Ledger(0)).split('/').next().expect("a part").to_owned()
}

#[test]
fn damage_to_a_grant_is_named_and_other_keys_still_restore() {
    let mut history = History::new();
    for how in HARMS.into_iter().filter(|how| !matches!(how, Harm::Beside)) {
        let cell = try_everything(&mut history, Kind::Grant(Role::Admin), how);
        assert_eq!(cell.seen(Severity::Damage, &cell.name), "QRSD", "{how:?}");
        assert_eq!(cell.backs, [Back::Error; RUNS]);
        // The recovery key has its own grant.
        let back =
            restore(&history, Role::Recovery, Selector::Name(history.snapshots[2].to_string()), &history.databases[2]);
        assert_eq!(back.expect("restores"), Back::Equal);
        assert_eq!(cell.backup.is_ok(), how != Harm::Swap);

        if how == Harm::Swap {
            continue;
        }
        let cell = try_everything(&mut history, Kind::Grant(Role::Operator), how);
        assert_eq!(cell.seen(Severity::Damage, &cell.name), "QRSD", "{how:?}");
        assert_eq!(cell.backs, [Back::Equal; RUNS]);
        assert!(cell.backup.expect_err("no keys").to_string().contains(&cell.name));
    }
    assert_beside(&mut history, Kind::Grant(Role::Admin));
}

#[test]
fn damage_to_a_ledger_entry_hides_only_the_entries_that_depend_on_it() {
    use Back::{Absent, Equal};
    let mut history = History::new();
    for run in 0..RUNS {
        for how in HARMS.into_iter().filter(|how| *how != Harm::Beside) {
            let kind = Kind::Ledger(run);
            let cell = try_everything(&mut history, kind, how);
            let expected = match (run, how.removes(), how) {
                (0, true, _) | (0 | 2, _, Harm::Swap) => [Absent, Absent, Absent],
                // The entry after the next one counts again, because its predecessor's bytes still exist.
                (0, ..) => [Absent, Absent, Equal],
                (1, ..) => [Equal, Absent, Absent],
                _ => [Equal, Equal, Absent],
            };
            assert_eq!(cell.backs, expected, "{how:?} {run}");
            let is_end = run == RUNS - 1;
            let seen = cell.seen(Severity::Damage, &cell.name);
            match &cell.backup {
                // Nothing takes the number of a missing entry while later ones are there.
                Err(error) => assert!(how.removes() && !is_end && error.to_string().contains("is missing"), "{error}"),
                Ok(_) => assert!((is_end || !how.removes()) && cell.after == Equal, "{how:?} {run}"),
            }
            match how {
                // Only a process that saw the last entry can tell that it existed.
                Harm::Delete if is_end => assert_eq!(seen, ""),
                _ => assert_eq!(seen, "QRSD", "{how:?} {run}"),
            }
        }
    }
    assert_beside(&mut history, Kind::Ledger(1));
}

#[test]
fn damage_to_a_manifest_affects_only_its_snapshot() {
    let mut history = History::new();
    for run in [0, RUNS - 1] {
        for how in HARMS.into_iter().filter(|how| *how != Harm::Beside) {
            let kind = Kind::Manifest(run);
            let cell = try_everything(&mut history, kind, how);
            let other = (run + 1) % RUNS;
            for (at, back) in cell.backs.iter().enumerate() {
                let hit = at == run;
                if how == Harm::Swap && at == other {
                    continue;
                }
                assert_eq!(*back, if hit { Back::Error } else { Back::Equal }, "{how:?} {run}");
            }
            let seen = cell.seen(Severity::Damage, &cell.name);
            assert_eq!(seen, if how.keeps_size() { "RSD" } else { "QRSD" }, "{how:?} {run}");
            assert!(cell.backup.is_ok() && cell.after == Back::Equal);
            let hurt = |report: &VerifyReport| {
                let found = report
                    .findings
                    .iter()
                    .find(|found| found.object == cell.name && found.severity == Severity::Damage);
                found.expect("seen").snapshots.contains(&history.snapshots[run])
            };
            assert!(hurt(cell.levels[1].as_ref().expect("read")));
            assert!(hurt(cell.levels[2].as_ref().expect("structure")));
        }
    }
    assert_beside(&mut history, Kind::Manifest(1));
}

fn packs(kind: fn(usize) -> Kind) {
    let mut history = History::new();
    for run in [0, RUNS - 1] {
        for how in HARMS.into_iter().filter(|how| *how != Harm::Beside) {
            let kind = kind(run);
            assert!(kind.is_pack());
            let cell = try_everything(&mut history, kind, how);
            let first = if how == Harm::Swap { run.min((run + 1) % RUNS) } else { run };
            for (at, back) in cell.backs.iter().enumerate() {
                match how {
                    _ if at < first => assert_eq!(*back, Back::Equal, "{how:?} {run} {at}"),
                    Harm::Truncate | Harm::Extend => assert_eq!(*back, Back::Equal, "{how:?} {run} {at}"),
                    _ if at == run => assert_eq!(*back, Back::Listed, "{how:?} {run} {at}"),
                    _ => assert!(matches!(back, Back::Equal | Back::Listed), "{how:?} {run} {at}"),
                }
            }
            let seen = cell.seen(Severity::Damage, &cell.name);
            let size = |name: &str| history.world.read(name).len();
            // Two packs may happen to have the same size.
            let same_size = |other: Kind| size(&cell.name) == size(&history.object(&other));
            let keeps_size = how.keeps_size() || how == Harm::Swap && kind.other().is_some_and(same_size);
            match how {
                // The byte is in a frame. An auditor can open frames of nodes, but no frames of leaves and streams.
                Harm::Flip => assert_eq!(seen, if matches!(kind, Kind::Nodes(_)) { "RSD" } else { "RD" }, "{run}"),
                _ if keeps_size => assert_eq!(seen, "RSD", "{how:?} {run}"),
                _ => assert_eq!(seen, "QRSD", "{how:?} {run}"),
            }
            assert!(cell.backup.is_ok(), "{how:?}: {:?}", cell.backup);
            if !keeps_size {
                assert_eq!(cell.after, Back::Equal, "{how:?} {run}");
            }
            for level in [2, 3] {
                let report = cell.levels[level].as_ref().expect("checks");
                for found in report
                    .findings
                    .iter()
                    .filter(|found| found.kind == FindingKind::LostChunk && found.object == cell.name)
                {
                    assert!(!found.tables.is_empty(), "{found:?}");
                    assert!(found.snapshots.contains(&history.snapshots[run]), "{found:?}");
                }
                let intact = |at: usize| {
                    let id = history.snapshots[at];
                    report.sources[0].snapshots.iter().find(|snapshot| snapshot.snapshot == id).expect("checked").intact
                };
                for at in 0..first {
                    assert!(intact(at), "{how:?} {run}: {at} must be intact");
                }
                if level == 3 {
                    assert!(!intact(run), "{how:?} {run} must be damaged");
                }
            }
        }
        assert_beside(&mut history, kind(run));
    }
}

#[test]
fn damage_to_a_pack_of_leaves_costs_only_its_rows() {
    packs(Kind::Leaves);
}

#[test]
fn damage_to_a_pack_of_nodes_costs_only_its_rows() {
    packs(Kind::Nodes);
}

#[test]
fn damage_to_a_pack_of_streams_costs_only_its_values() {
    packs(Kind::Streams);
}

#[test]
fn damage_to_caches_and_announcements_costs_nothing() {
    let mut history = History::new();
    for kind in [Kind::Index(0), Kind::Index(2), Kind::Session(2)] {
        for how in HARMS.into_iter().filter(|how| *how != Harm::Beside) {
            let cell = try_everything(&mut history, kind, how);
            assert_eq!(cell.backs, [Back::Equal; RUNS], "{kind:?} {how:?}");
            assert!(cell.backup.is_ok() && cell.after == Back::Equal, "{kind:?} {how:?}");
            assert_eq!(cell.seen(Severity::Damage, &cell.name), "");
            let renamed = renamed(&cell.name);
            let name = if how == Harm::Rename { &renamed } else { &cell.name };
            let seen = cell.seen(Severity::Warning, name);
            match (how, kind) {
                (Harm::Delete, _) => assert_eq!(seen, ""),
                (_, Kind::Index(_)) => assert_eq!(seen, "RSD", "{how:?}"),
                _ => assert_eq!(seen, "R", "{how:?}"),
            }
        }
        assert_beside(&mut history, kind);
    }
}

#[test]
fn a_verifier_with_known_heads_detects_removed_entries() {
    let mut history = History::new();
    let heads = history.world.verify(None, VerifyLevel::Quick).expect("quick").heads.expect("heads");
    let text = serde_json::to_string(&heads).expect("serializes");
    let visit = Some(serde_json::from_str(&text).expect("parses"));
    for kind in [Kind::Ledger(RUNS - 1), Kind::Roster(2)] {
        let image = history.image.clone();
        history.world.reset(&image);
        let name = harm(&history, kind, Harm::Delete);
        let report = history.world.verify_again(None, VerifyLevel::Quick, visit.clone()).expect("quick");
        let gone =
            |found: &&sidekeep::base::finding::Finding| found.object == name && found.kind == FindingKind::RolledBack;
        assert!(report.findings.iter().any(|found| gone(&found)), "{:?}", report.findings);
    }
    let image = history.image.clone();
    history.world.reset(&image);
    history.world.try_backup(&history.tomorrow).expect("one more");
    let report = history.world.verify_again(None, VerifyLevel::Quick, visit).expect("quick");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let mut other = heads;
    other.roster = Numbered { number: 1, sha256: Digest::new([7; 32]) };
    let report = history.world.verify_again(None, VerifyLevel::Quick, Some(other)).expect("quick");
    assert!(report.has_damage());
}

/// A database with one large table, whose tree has two levels of nodes.
fn tall(world: &StoredWorld, name: &str) -> PathBuf {
    let path = world.path(name);
    let db = Connection::open(&path).expect("a database");
    db.execute_batch("CREATE TABLE wide (id INTEGER PRIMARY KEY, bytes BLOB); CREATE TABLE other (id INTEGER PRIMARY KEY); INSERT INTO other VALUES (1); BEGIN")
        .expect("tables");
    for n in 0..2500i64 {
        db.execute("INSERT INTO wide VALUES (?1, ?2)", (n, noise(n as u64, 4100))).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
    path
}

#[test]
fn a_lost_node_costs_only_its_rows() {
    let world = StoredWorld::new();
    let live = tall(&world, "live.sqlite");
    world.try_backup(&live).expect("a snapshot");
    let nodes: Vec<String> =
        world.names().into_iter().filter(|name| name.contains("/packs/") && world.read(name)[68] == 2).collect();
    let [one, two] = nodes.as_slice() else { panic!("one pack for each level: {nodes:?}") };
    let nodes = if world.read(one).len() > world.read(two).len() { one } else { two };
    let mut bytes = world.read(nodes).to_vec();
    bytes[flipped_byte(Kind::Nodes(0), &world.read(nodes))] ^= 1;
    world.overwrite(nodes, bytes.into());
    let report = world.verify(Some(Role::Auditor), VerifyLevel::Structure).expect("structure");
    let found: Vec<_> = report.findings.iter().filter(|found| found.kind == FindingKind::Unreadable).collect();
    assert!(found.len() == 1 && found[0].object == *nodes && found[0].tables.contains("wide"), "{found:?}");
    let deep = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert!(deep.findings.iter().all(|found| found.object == *nodes), "{:?}", deep.findings);
    let back = world.path("back.sqlite");
    let restored = world.try_restore(Selector::Latest(0), &back).expect("restores");
    assert_eq!(restored.damaged().len(), 1, "{:?}", restored.damaged());
    assert!(restored.damaged()[0].contains(" rows of wide: ") && restored.damaged()[0].contains(nodes.as_str()));
    assert_accounted(&restored);
    assert!(restored.rows > 1000 && restored.rows < 2501, "{}", restored.rows);
}

#[test]
fn frames_before_the_end_of_a_truncated_pack_are_restored() {
    let world = StoredWorld::new();
    let live = tall(&world, "live.sqlite");
    world.try_backup(&live).expect("a snapshot");
    let largest = world.names().into_iter().max_by_key(|name| world.read(name).len()).expect("objects");
    let bytes = world.read(&largest);
    world.overwrite(&largest, bytes.slice(..bytes.len() / 2));
    let back = world.path("back.sqlite");
    let restored = world.try_restore(Selector::Latest(0), &back).expect("restores");
    assert_accounted(&restored);
    assert!((1200..1300).contains(&restored.rows), "{} {:?}", restored.rows, restored.damaged().first());
    let again = world.try_backup(&live).expect("a snapshot");
    assert!(
        again.new_bytes > 10_000_000 && again.notes().iter().any(|note| note.contains("stored again")),
        "{again:?}"
    );
    std::fs::remove_file(&back).expect("removes");
    // Both snapshots are complete again: the older one finds its chunks in the new pack.
    for at in 0..2 {
        let restored = world.try_restore(Selector::Latest(at), &back).expect("restores");
        assert!(restored.damaged().is_empty(), "{:?}", restored.damaged());
        assert_same_database(&live, &back);
        std::fs::remove_file(&back).expect("removes");
    }
}

/// Backs up a small database with one more row, which identifies the run.
fn small_backup(world: &StoredWorld, db: &Connection, n: usize) {
    db.execute("INSERT INTO t VALUES (?1, ?2)", (n as i64, noise(n as u64, 50))).expect("a row");
    world.try_backup(&world.path("live.sqlite")).expect("a snapshot");
}

fn small(world: &StoredWorld) -> Connection {
    let db = Connection::open(world.path("live.sqlite")).expect("a database");
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, bytes BLOB)").expect("a table");
    db
}

#[test]
fn a_backup_does_not_fill_a_gap() {
    let world = StoredWorld::new();
    let db = small(&world);
    (0..6).for_each(|n| small_backup(&world, &db, n));
    let ledger: Vec<String> = world.names().into_iter().filter(|name| name.contains("/ledger/")).collect();
    world.delete(&ledger[2]);
    let report = world.verify(None, VerifyLevel::Quick).expect("quick");
    let gap = report.findings.iter().find(|found| matches!(found.kind, FindingKind::Hole { .. })).expect("a gap");
    assert_eq!(gap.object, ledger[2]);
    db.execute("INSERT INTO t VALUES (100, NULL)", []).expect("a row");
    let before = world.names();
    let error = world.try_backup(&world.path("live.sqlite")).expect_err("a gap").to_string();
    assert!(error.contains(&ledger[2]) && error.contains(&ledger[3]), "{error}");
    assert_eq!(world.names(), before, "nothing was written");
}

#[test]
fn garbage_at_the_next_number_blocks_nothing() {
    let world = StoredWorld::new();
    let db = small(&world);
    small_backup(&world, &db, 0);
    let first = world.names().into_iter().find(|name| name.contains("/ledger/")).expect("an entry");
    world.overwrite(&first.replace("0001", "0002"), noise(1, 500).into());
    world.overwrite(&first.replace("0001", "0003"), vec![b' '; (16 << 20) + 1].into());
    let report = world.verify(None, VerifyLevel::Quick).expect("quick");
    assert_eq!(
        report.findings.iter().filter(|found| found.severity == Severity::Damage).count(),
        1,
        "{:?}",
        report.findings
    );
    small_backup(&world, &db, 1);
    let report = world.verify(None, VerifyLevel::Read).expect("read");
    let void: Vec<_> = report.findings.iter().map(|found| (found.kind.clone(), found.severity)).collect();
    let expected = [(FindingKind::Void, Severity::Warning), (FindingKind::Void, Severity::Warning)];
    assert_eq!(void, expected, "{:?}", report.findings);
    assert_eq!(report.sources[0].manifests, 2);
}

/// Each pack has the key of its session in its header. If it is damaged there, other packs and the announcement have it.
#[test]
fn a_damaged_key_in_the_header_of_a_pack_loses_nothing() {
    let mut world = StoredWorld::new();
    let db = small(&world);
    db.execute_batch("CREATE TABLE photos (id INTEGER PRIMARY KEY, body BLOB)").expect("a table");
    let packs = |world: &StoredWorld| {
        world.names().into_iter().filter(|name| name.contains("/packs/")).collect::<Vec<String>>()
    };
    let mut older = Vec::new();
    for n in 0..2 {
        older = packs(&world);
        db.execute("INSERT INTO photos (body) VALUES (?1)", [noise(n as u64, 40_000)]).expect("a photo");
        small_backup(&world, &db, n);
    }
    assert!(older.len() > 1, "{older:?}");
    let image = world.image();
    let flip = |world: &StoredWorld, pack: &str| {
        let mut bytes = world.read(pack).to_vec();
        bytes[70 + 16 + 500] ^= 1;
        world.overwrite(pack, bytes.into());
    };
    let restored = |world: &StoredWorld| {
        let back = world.path("back.sqlite");
        let _ = std::fs::remove_file(&back);
        let restored = world.try_restore(Selector::Latest(0), &back).expect("restores");
        assert_same_database(&world.path("live.sqlite"), &back);
        restored
    };
    for pack in &packs(&world) {
        world.reset(&image);
        flip(&world, pack);
        restored(&world);
        let structure = world.verify(Some(Role::Auditor), VerifyLevel::Structure).expect("structure");
        let is_named = |found: &Finding| {
            found.kind == FindingKind::Contradiction && (found.object == *pack || found.detail.contains(pack))
        };
        assert!(structure.findings.iter().any(is_named), "{pack} {:?}", structure.findings);
    }
    world.reset(&image);
    older.iter().for_each(|pack| flip(&world, pack));
    let report = restored(&world);
    let is_named = |found: &Finding| found.severity == Severity::Warning && older.contains(&found.object);
    assert!(report.findings.iter().any(is_named), "{:?}", report.findings);
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_never_restored() {
    let mut history = History::new();
    let image = history.image.clone();
    let (mut flips, mut harmless) = (0, 0);
    for (name, bytes) in &image {
        let step = (bytes.len() / 5).max(1);
        for at in (flips % 7..bytes.len()).step_by(step) {
            flips += 1;
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (flips % 8);
            history.world.overwrite(name, flipped.into());
            let found = match history.world.verify(None, VerifyLevel::Read) {
                Ok(report) => report.findings.iter().any(|found| {
                    found.severity <= Severity::Warning && (found.object == *name || name.starts_with(&found.object))
                }),
                Err(_) => true,
            };
            assert!(found, "{name} at {at} is not found");
            let runs_hit = if name.contains("/packs/") { vec![0, RUNS - 1] } else { vec![RUNS - 1] };
            for run in runs_hit {
                let by_id = Selector::Name(history.snapshots[run].to_string());
                // Panics if the restored database differs and nothing is listed.
                harmless += usize::from(restore(&history, Role::Admin, by_id, &history.databases[run]).is_ok());
            }
            history.world.overwrite(name, bytes.clone());
        }
    }
    println!("{flips} flips, {harmless} restores succeeded");
    history.world.reset(&image);
}
