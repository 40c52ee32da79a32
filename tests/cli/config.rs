//! `sidekeep.toml`: where it is found and what is wrong with it.

use crate::Sandbox;

#[test]
fn the_option_goes_before_the_variable_and_both_before_the_places() {
    let mut sandbox = Sandbox::with_service();
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    std::fs::create_dir_all(sandbox.path(".config/sidekeep")).expect("makes");
    sandbox.write(".config/sidekeep/sidekeep.toml", &config);
    sandbox.write("sidekeep.toml", "repo = 'here'");
    assert!(sandbox.fails(2, &["backup"]).contains("no source"));
    std::fs::remove_file(sandbox.path("sidekeep.toml")).expect("removes");
    sandbox.ok(&["backup"]);
    sandbox.write("variable.toml", "repo = 'variable'");
    sandbox.set("SIDEKEEP_CONFIG", "variable.toml");
    assert!(sandbox.fails(2, &["backup"]).contains("no source"));
    sandbox.ok(&["backup", "--config", ".config/sidekeep/sidekeep.toml"]);
    assert!(sandbox.fails(2, &["backup", "--config", "missing.toml"]).contains("missing.toml"));
}

#[test]
fn errors_name_file_line_and_the_keys_that_there_are() {
    let sandbox = Sandbox::new();
    sandbox.write("sidekeep.toml", "# one\nrepoo = 'x'\n");
    let message = sandbox.fails(2, &["backup"]);
    assert!(message.contains("sidekeep.toml, line 2") && message.contains("`repo`"), "{message}");
    sandbox.write("sidekeep.toml", "source = 'postgres://ana:hunter2@db/x'");
    assert!(!sandbox.fails(2, &["backup"]).contains("hunter2"));
}

#[test]
fn commands_that_need_no_configuration_do_not_look_at_it() {
    let sandbox = Sandbox::new();
    sandbox.write("sidekeep.toml", "nonsense");
    sandbox.ok(&["completions", "bash"]);
    sandbox.ok(&["init", "repo"]);
}

#[test]
fn several_sources_have_to_be_told_apart() {
    let sandbox = Sandbox::with_service();
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write("sidekeep.toml", &(config + "\n[source.other]\nurl = 'sqlite:other.db'\n"));
    assert!(sandbox.fails(2, &["backup"]).contains("main, other"));
    sandbox.ok(&["backup", "main"]);
}
