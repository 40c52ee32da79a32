//! Packs that a crashed run had announced are adopted by the next run of the same key and by no other, unless they were
//! removed (rule L6).

use std::sync::Arc;

use object_store::memory::InMemory;
use sidekeep::base::id::Digest;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::entry::{EntryBody, Prune};
use sidekeep::format::name::Name;

use crate::crash::scenario::{Scenario, announced};
use crate::support::stores::damage;
use crate::support::stores::faulty::{Effect, Faulty, Plan};
use crate::support::world::look::assert_sound;
use crate::support::world::{SOURCE, World, open_key};

/// A run of the operator that crashed before its manifest. Returns the repository and the announced packs.
fn died(scenario: &Scenario) -> (World, Arc<InMemory>, Vec<Digest>) {
    let counting = Faulty::new(scenario.fork(), Plan::never());
    scenario.world.beside(counting.clone()).backup(&scenario.after);
    let memory = scenario.fork();
    let faulty = Faulty::new(memory.clone(), Plan::crash(counting.calls() - 1, Effect::NotApplied));
    scenario.world.beside(faulty).try_backup(&scenario.after).expect_err("dies");
    let left = scenario.world.beside(memory.clone());
    let packs: Vec<Digest> = announced(&left).into_iter().filter(|pack| !left.ledger(SOURCE).has_pack(pack)).collect();
    assert!(!packs.is_empty());
    (left, memory, packs)
}

/// The name of the announcement of the crashed run.
fn announcement(left: &World, scenario: &Scenario) -> String {
    let listed = |world: &World| world.objects().list(&format!("{}/sessions", world.source(SOURCE))).expect("lists");
    let before: Vec<String> = listed(&scenario.world).into_iter().map(|listed| listed.name).collect();
    listed(left).into_iter().map(|listed| listed.name).find(|name| !before.contains(name)).expect("one more")
}

fn adopts(left: &World, scenario: &Scenario) -> usize {
    let report = left.backup(&scenario.after);
    left.assert_restores(SOURCE, report.snapshot.expect("committed"), &scenario.after);
    assert_sound(left, SOURCE);
    report.adopted
}

#[test]
fn the_same_key_adopts_what_it_announced() {
    let scenario = Scenario::small();
    let (left, _, packs) = died(&scenario);
    assert_eq!(adopts(&left, &scenario), packs.len());
    assert!(packs.iter().all(|pack| left.ledger(SOURCE).has_pack(pack)));
}

#[test]
fn pruned_packs_are_not_adopted_and_block_nothing() {
    let scenario = Scenario::small();
    let (left, _, packs) = died(&scenario);
    let prune = Prune { packs: packs.clone(), manifests: Vec::new() };
    left.append(Role::Maintainer, SOURCE, EntryBody::Prune(prune));
    // The maintainer deletes them later. Until then they exist but do not count.
    assert_eq!(adopts(&left, &scenario), 0);
    assert!(packs.iter().all(|pack| !left.ledger(SOURCE).has_pack(pack)));
}

#[test]
fn packs_announced_by_another_key_are_not_adopted() {
    let scenario = Scenario::small();
    let second = scenario.world.beside(scenario.memory.clone()).enrol(Role::Operator, Some(SourceScope::All));
    let (left, _, packs) = died(&scenario);
    let report = left.try_backup_as(open_key(&second), SOURCE, &scenario.after).expect("a snapshot");
    assert_eq!(report.adopted, 0);
    left.assert_restores(SOURCE, report.snapshot.expect("committed"), &scenario.after);
    assert!(packs.iter().all(|pack| !left.ledger(SOURCE).has_pack(pack)));
}

#[test]
fn an_altered_or_moved_announcement_is_ignored() {
    let scenario = Scenario::small();
    for elsewhere in [false, true] {
        let (left, memory, _) = died(&scenario);
        let name = announcement(&left, &scenario);
        let bytes = left.objects().get(&Name::parse(&name).expect("a name"), 1 << 20).expect("reads");
        let runtime = &left.runtime;
        runtime.block_on(damage::delete(&*memory, &name));
        let (name, bytes) = if elsewhere {
            // Under the name of the second announcement of its session.
            (name.replace("0000000001", "0000000002"), bytes.to_vec())
        } else {
            let mut envelope: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            let sig = data_encoding::BASE64.encode(&[7; 64]);
            envelope["signatures"][0]["sig"] = sig.into();
            (name, serde_json::to_vec(&envelope).expect("JSON"))
        };
        left.objects().create(&Name::parse(&name).expect("a name"), bytes.into()).expect("creates");
        assert_eq!(adopts(&left, &scenario), 0, "elsewhere: {elsewhere}");
    }
}

#[test]
fn a_missing_or_truncated_pack_is_not_adopted() {
    let scenario = Scenario::small();
    for cut in [false, true] {
        let (left, memory, packs) = died(&scenario);
        let name = Name::Pack(left.source(SOURCE), packs[0]).to_string();
        left.runtime.block_on(async {
            if cut { damage::truncate(&*memory, &name, 200).await } else { damage::delete(&*memory, &name).await }
        });
        assert_eq!(adopts(&left, &scenario), packs.len() - 1, "cut: {cut}");
        assert!(!left.ledger(SOURCE).has_pack(&packs[0]));
    }
}
