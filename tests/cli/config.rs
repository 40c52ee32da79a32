//! `sidekeep.toml`: where it is found, and how errors in it are reported.

use crate::Sandbox;

#[test]
fn the_option_overrides_the_variable_and_both_override_the_default_files() {
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
fn an_error_names_file_line_and_known_keys() {
    let sandbox = Sandbox::new();
    sandbox.write("sidekeep.toml", "# one\nrepoo = 'x'\n");
    let message = sandbox.fails(2, &["backup"]);
    assert!(message.contains("sidekeep.toml, line 2") && message.contains("`repo`"), "{message}");
    sandbox.write("sidekeep.toml", "source = 'postgres://ana:hunter2@db/x'");
    assert!(!sandbox.fails(2, &["backup"]).contains("hunter2"));
}

#[test]
fn commands_that_need_no_configuration_do_not_read_it() {
    let sandbox = Sandbox::new();
    sandbox.write("sidekeep.toml", "nonsense");
    sandbox.ok(&["completions", "bash"]);
    sandbox.ok(&["init", "repo"]);
}

#[test]
fn a_backup_must_name_one_of_several_sources() {
    let sandbox = Sandbox::with_service();
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    sandbox.write("sidekeep.toml", &(config + "\n[source.other]\nurl = 'sqlite:other.db'\n"));
    assert!(sandbox.fails(2, &["backup"]).contains("main, other"));
    sandbox.ok(&["backup", "main"]);
}
