//! Cut anywhere and gone on with, a restore gives the same database.

use sidekeep::engine::contract::SourceError;
use sidekeep::engine::postgres::restore::{PostgresTarget, Resume, TargetOptions};
use sidekeep::ops::error::OpError;

use crate::restore::cut::Breaking;
use crate::support::postgres::compare::{Image, image};
use crate::support::postgres::stage::{DATABASE, Stage, refused};

const GO_ON: i64 = 1 << 40;

fn options(resume: Resume) -> TargetOptions {
    TargetOptions { resume, first: vec!["app.contacts".to_owned()], ..TargetOptions::default() }
}

/// Restores over a way that breaks; gives the messages that were left, and whether it came to its end.
fn attempt(stage: &Stage, database: &str, resume: Resume, messages: i64) -> (i64, Result<Vec<String>, OpError>) {
    let way = Breaking::after(&stage.cluster, messages);
    let mut target = PostgresTarget::new(way.address(database), options(resume));
    let result = stage.restore(&mut target, &[]).map(|report| refused(&report));
    (way.left(), result)
}

/// A database with a subscription cannot be dropped: each has a name of its own.
fn fresh(stage: &Stage, at: usize) -> String {
    let name = format!("copy{at}");
    stage.cluster.create_database(&name, "TEMPLATE template0");
    name
}

fn is_cut(result: &Result<Vec<String>, OpError>) -> bool {
    match result {
        Ok(_) => false,
        Err(OpError::Source(SourceError::Lost { .. } | SourceError::Unreachable { .. })) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn cut_anywhere_and_gone_on_with_it_is_the_same() {
    let Some(stage) = Stage::nasty() else { return };
    let expected: Image = image(&stage.cluster, DATABASE);
    let whole = fresh(&stage, 100);
    let (left, result) = attempt(&stage, &whole, Resume::Refuse, GO_ON);
    assert_eq!(result.expect("a restore"), [""; 0]);
    let all = GO_ON - left;
    assert!(all > 100, "{all}");
    for at in 0..5 {
        let copy = fresh(&stage, at);
        let messages = all * [4, 30, 50, 70, 95][at] / 100;
        let (_, cut) = attempt(&stage, &copy, Resume::Refuse, messages);
        assert!(is_cut(&cut), "{messages} of {all}");
        let mut result = attempt(&stage, &copy, Resume::GoOn, if at % 3 == 0 { all / 4 } else { GO_ON }).1;
        // Ever more: one batch may take half of them.
        let mut messages_more = all / 4;
        while is_cut(&result) {
            messages_more += all / 4;
            result = attempt(&stage, &copy, Resume::GoOn, messages_more).1;
        }
        assert_eq!(result.expect("a restore"), [""; 0], "{messages} of {all}");
        let found = image(&stage.cluster, &copy);
        assert_eq!(found.facts, expected.facts, "{messages} of {all}");
        assert!(found.schema == expected.schema, "{messages} of {all}");
    }
}
