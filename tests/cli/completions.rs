//! `sidekeep completions`

use crate::Sandbox;

#[test]
fn every_shell_gets_a_script() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(sandbox.ok(&["completions", shell]).contains("keys-dir"), "{shell}");
    }
    let document = sandbox.json(&["completions", "bash"]);
    assert_eq!((&document["kind"], &document["shell"]), (&"completions".into(), &"bash".into()));
    assert!(sandbox.fails(2, &["completions", "cmd.exe"]).contains("bash"));
}
