//! The store fails once, at every call, in every way. The run either continues or ends with an error that gives the
//! reason, and never commits a snapshot that cannot be restored.

use sidekeep::base::causes;

use crate::crash::scenario::Scenario;
use crate::support::stores::faulty::{ALL, Effect, Fault, Faulty, Plan};
use crate::support::world::findings::FindingsByKind;

const FAULTS: [Fault; 5] =
    [Fault::Lost(Effect::NotApplied), Fault::Lost(Effect::Applied), Fault::Refused, Fault::Full, Fault::Short];

fn plan(first: u64, times: u64, fault: Fault) -> Plan {
    Plan { verbs: ALL, prefix: "", first, times, fault }
}

#[test]
fn a_backup_survives_a_failed_call_or_reports_it() {
    let scenario = Scenario::small();
    let healthy = Faulty::new(scenario.fork(), plan(u64::MAX, 1, Fault::Full));
    scenario.world.beside(healthy.clone()).backup(&scenario.after);
    let mut survived = 0;
    for call in 1..=healthy.calls() {
        for fault in FAULTS {
            let memory = scenario.fork();
            let faulty = Faulty::new(memory.clone(), plan(call, 1, fault));
            let result = scenario.world.beside(faulty).try_backup(&scenario.after);
            let left = scenario.world.beside(memory);
            let committed = scenario.assert_nothing_half(&left);
            match result {
                Ok(report) => {
                    survived += 1;
                    assert!(committed && report.notes().is_empty(), "call {call}, {fault:?}: {report:?}");
                }
                Err(error) => {
                    let text = causes::describe(&error);
                    assert!(!text.contains("damaged") && !text.contains("missing"), "call {call}, {fault:?}: {text}");
                    assert!(
                        !text.contains("stopped") && !text.contains("interrupted"),
                        "call {call}, {fault:?}: {text}"
                    );
                }
            }
        }
    }
    assert!(survived > 0, "the result of a create is looked up if its answer is lost");
}

#[test]
fn a_backup_fails_cleanly_if_the_store_fails_for_good() {
    let scenario = Scenario::small();
    for call in [1, 3, 5, 8, 12, 16, 20, 24] {
        for fault in [Fault::Refused, Fault::Full, Fault::Short] {
            let memory = scenario.fork();
            let faulty = Faulty::new(memory.clone(), plan(call, u64::MAX, fault));
            let result = scenario.world.beside(faulty).try_backup(&scenario.after);
            let left = scenario.world.beside(memory);
            let committed = scenario.assert_nothing_half(&left);
            assert_eq!(result.is_ok(), committed, "call {call}, {fault:?}: {result:?}");
            scenario.assert_next_run(&left);
        }
    }
}

#[test]
fn a_restore_through_a_failing_store_is_complete_or_fails() {
    let scenario = Scenario::small();
    let healthy = Faulty::new(scenario.fork(), plan(u64::MAX, 1, Fault::Full));
    let to = scenario.world.path("back");
    scenario.world.beside(healthy.clone()).restore(&to);
    std::fs::remove_file(&to).expect("was restored");
    for call in 1..=healthy.calls() {
        for fault in [Fault::Lost(Effect::NotApplied), Fault::Refused, Fault::Short] {
            let faulty = Faulty::new(scenario.fork(), plan(call, 1, fault));
            let to = scenario.world.path("back");
            let selector = sidekeep::ops::select::Selector::Latest(0);
            match scenario.world.beside(faulty).try_restore(selector, &to) {
                Ok(report) if report.damaged().is_empty() && report.refused().is_empty() => {
                    crate::support::sqlite::assert_same_database(&scenario.before, &to);
                    std::fs::remove_file(&to).expect("was restored");
                }
                Ok(report) => panic!("call {call}, {fault:?}: nothing is damaged: {report:?}"),
                Err(_) => assert!(!to.exists(), "call {call}, {fault:?}: a partial database"),
            }
        }
    }
}
