//! A restore that is cut anywhere and resumed gives the same database.

use sidekeep::engine::contract::EngineError;
use sidekeep::engine::postgres::restore::{PostgresTarget, Resume, TargetOptions};
use sidekeep::ops::error::OpError;

use crate::restore::cut::BreakingProxy;
use crate::support::postgres::compare::{Image, image};
use crate::support::postgres::stage::{DATABASE, Stage, refused};

const NO_LIMIT: i64 = 1 << 40;

fn options(resume: Resume) -> TargetOptions {
    TargetOptions { resume, first: vec!["app.contacts".to_owned()], ..TargetOptions::default() }
}

/// Restores through a proxy that breaks. Returns the number of messages that could still pass, and the result.
fn attempt(stage: &Stage, database: &str, resume: Resume, messages: i64) -> (i64, Result<Vec<String>, OpError>) {
    let proxy = BreakingProxy::after(&stage.cluster, messages);
    let mut target = PostgresTarget::new(proxy.address(database), options(resume));
    let result = stage.restore(&mut target, &[]).map(|report| refused(&report));
    (proxy.left(), result)
}

/// Creates an empty database. Each has its own name, because a database with a subscription cannot be dropped.
fn fresh(stage: &Stage, at: usize) -> String {
    let name = format!("copy{at}");
    stage.cluster.create_database(&name, "TEMPLATE template0");
    name
}

fn is_cut(result: &Result<Vec<String>, OpError>) -> bool {
    match result {
        Ok(_) => false,
        Err(OpError::Engine(EngineError::Lost { .. } | EngineError::Unreachable { .. })) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_restore_cut_anywhere_and_resumed_gives_the_same_database() {
    let Some(stage) = Stage::nasty() else { return };
    let expected: Image = image(&stage.cluster, DATABASE);
    let whole = fresh(&stage, 100);
    let (left, result) = attempt(&stage, &whole, Resume::Refuse, NO_LIMIT);
    assert_eq!(result.expect("a restore"), [""; 0]);
    let all = NO_LIMIT - left;
    assert!(all > 100, "{all}");
    for at in 0..5 {
        let copy = fresh(&stage, at);
        let messages = all * [4, 30, 50, 70, 95][at] / 100;
        let (_, cut) = attempt(&stage, &copy, Resume::Refuse, messages);
        assert!(is_cut(&cut), "{messages} of {all}");
        let mut result = attempt(&stage, &copy, Resume::Continue, if at % 3 == 0 { all / 4 } else { NO_LIMIT }).1;
        // The limit grows with each attempt, because one batch may need half of the messages.
        let mut messages_more = all / 4;
        while is_cut(&result) {
            messages_more += all / 4;
            result = attempt(&stage, &copy, Resume::Continue, messages_more).1;
        }
        assert_eq!(result.expect("a restore"), [""; 0], "{messages} of {all}");
        let found = image(&stage.cluster, &copy);
        assert_eq!(found.facts, expected.facts, "{messages} of {all}");
        assert!(found.schema == expected.schema, "{messages} of {all}");
    }
}
