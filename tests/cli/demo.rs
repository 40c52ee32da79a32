//! `sidekeep demo`

use crate::Sandbox;

#[test]
fn the_demo_restores_everything_and_keeps_the_named_directory() {
    let mut sandbox = Sandbox::new();
    // The demo ignores settings for real repositories.
    sandbox.set("SIDEKEEP_REPO", "nowhere");
    let text = sandbox.ok(&["demo", "--dir", "play"]);
    assert!(text.contains("$ sidekeep restore latest~1") && text.ends_with("cd play\n"), "{text}");
    assert!(text.contains("Everything is back."), "{text}");
    assert!(text.contains("rows in 11 tables were restored, and every value is the same"), "{text}");
    assert!(sandbox.path("play/restored.sqlite").exists());
    assert!(sandbox.fails(2, &["demo", "--dir", "play"]).contains("exists"));
    // The commands that it prints work there. So does another backup.
    let mut backup = sandbox.command(&["backup"]);
    let ran = Sandbox::ran(backup.env_remove("SIDEKEEP_REPO").current_dir(sandbox.path("play")));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let mut snapshots = sandbox.command(&["snapshots"]);
    let ran = Sandbox::ran(snapshots.env_remove("SIDEKEEP_REPO").current_dir(sandbox.path("play")));
    assert_eq!((ran.out.lines().count(), ran.out.matches("source ").count()), (11, 1), "{}", ran.out);
}

#[test]
fn the_temporary_directory_is_removed() {
    let mut sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tmp")).expect("makes");
    sandbox.set("TMPDIR", sandbox.path("tmp"));
    let document = sandbox.json(&["demo"]);
    assert_eq!(document["before"], document["restored"]);
    assert_ne!(document["before"], document["broken"]);
    assert_eq!(document["story"]["failures"], serde_json::json!([]));
    assert_eq!(sandbox.path("tmp").read_dir().expect("reads").count(), 0);
}
