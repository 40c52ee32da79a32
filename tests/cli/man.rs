//! `sidekeep man`

use crate::Sandbox;
use crate::help::commands;

#[test]
fn every_command_has_a_page() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["man", "--dir", "pages"]);
    assert!(sandbox.path("pages/sidekeep.1").exists());
    for command in commands() {
        let page = std::fs::read_to_string(sandbox.path(&format!("pages/sidekeep-{command}.1"))).expect(&command);
        assert!(page.contains(".SH NAME") && sandbox.ok(&["man", &command]) == page);
    }
    assert!(sandbox.ok(&["man"]).contains("Exit codes"));
    assert!(sandbox.fails(2, &["man", "resotre"]).contains("resotre"));
    assert!(sandbox.json(&["man"])["pages"][0]["text"].is_string());
}

#[test]
fn an_unwritable_directory_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "");
    assert!(sandbox.fails(2, &["man", "--dir", "file/pages"]).contains("file/pages"));
}
