//! The demo succeeds, also on a small scale.

use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::System;
use sidekeep::base::progress::Silent;
use sidekeep::ops::demo::{self, Chapter, DemoOptions};
use sidekeep::ops::error::OpError;

#[test]
fn a_small_demo_loses_and_restores_everything() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let options = DemoOptions {
        dir: dir.path().join("demo"),
        users: 25,
        runs: 3,
        workers: 2,
        runtime: runtime.handle().clone(),
        env: Arc::new(System),
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    };
    let mut chapters = Vec::new();
    let report = demo::run(&options, &mut |chapter, line| {
        println!("{line}");
        chapters.push(chapter);
    })
    .expect("a demo");
    assert!(report.failures.is_empty() && report.proven.len() == 4, "{report:?}");
    assert!(chapters.is_sorted_by_key(|chapter| *chapter as u8) && chapters.contains(&Chapter::Proof));
    assert_eq!((report.runs.len(), report.users), (3, 27));
    assert!(report.runs.windows(2).all(|pair| pair[1].source_clock.0 - pair[0].source_clock.0 > 86_000_000_000));
    assert!(report.runs[1..].iter().all(|run| run.added_share < 0.3), "{:?}", report.runs);
    assert_eq!((report.disaster.rows, report.disaster.rows_lost), (0, report.rows));
    assert_eq!(report.disaster.users_affected, report.users);
    assert!(
        report.restored.comparison.rows >= report.rows
            && report.verified.objects_read > 3
            && report.verified.snapshots == 4
    );
    assert!(!dir.path().join("demo/never.sqlite").exists());
    serde_json::to_string(&report).expect("JSON");
    assert!(matches!(demo::run(&options, &mut |_, _| {}), Err(OpError::Engine(_))));
}
