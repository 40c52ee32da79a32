//! `sidekeep source`, and sources that the configuration pins.

use crate::Sandbox;

const ADMIN: [&str; 2] = ["--key-file", "keys/admin.key"];

fn admin<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &ADMIN].concat()
}

/// The id of the first source in `source list`.
fn first_id(sandbox: &Sandbox) -> String {
    let listed: serde_json::Value = serde_json::from_str(&sandbox.ok(&["source", "list", "--json"])).expect("JSON");
    listed["sources"][0]["source"].as_str().expect("an id").to_owned()
}

#[test]
fn sources_are_listed_renamed_and_retired() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let id = first_id(&sandbox);
    assert!(sandbox.ok(&["source", "list"]).contains(&format!("{id}  main")));
    let public = sandbox.run(&["source", "list", "--json", "--config", "none.toml", "--repo", "repo"]);
    assert!(public.code == 2, "a named configuration must exist: {}", public.err);

    // Only an admin renames and retires.
    for args in [&["source", "rename", "main", "sync"][..], &["source", "retire", "main", "--reason", "x"]] {
        let message = sandbox.fails(5, args);
        assert!(message.contains("an admin or the recovery key"), "{message}");
    }
    let renamed = sandbox.ok(&admin(&["source", "rename", "main", "sync"]));
    assert!(renamed.contains(&format!("{id}  sync")), "{renamed}");
    let message = sandbox.fails(2, &admin(&["source", "rename", "main", "x"]));
    assert!(message.contains("no source named \"main\""), "{message}");
    for (name, words) in [(id.as_str(), "form of an id"), ("sync", &id)] {
        let message = sandbox.fails(2, &admin(&["source", "rename", &id, name]));
        assert!(message.contains(words), "{message}");
    }

    // The name is free, but an operator does not get it. Another name does no harm.
    let message = sandbox.fails(2, &["backup"]);
    assert!(message.contains("only an admin gives it again"), "{message}");
    sandbox.ok(&admin(&["source", "rename", "sync", "main"]));
    sandbox.ok(&["backup"]);

    let retired = sandbox.ok(&admin(&["source", "retire", "main", "--reason", "replaced"]));
    assert!(retired.contains("retired"), "{retired}");
    let message = sandbox.fails(2, &admin(&["source", "retire", &id, "--reason", "replaced"]));
    assert!(message.contains("is retired"), "{message}");
    assert!(sandbox.fails(2, &["backup"]).contains("only an admin gives it again"));
    // Its snapshots stay, and nobody waits for new ones.
    sandbox.ok(&admin(&["restore", "latest", "--source", &id, "--to", "out.sqlite"]));
    assert!(!sandbox.run(&["status"]).out.contains(&id));
}

#[test]
fn a_pinned_id_means_its_source_whatever_the_names_are() {
    let sandbox = Sandbox::with_service();
    sandbox.ok(&["backup"]);
    let id = first_id(&sandbox);
    let config = std::fs::read_to_string(sandbox.path("sidekeep.toml")).expect("reads");
    let pinned = |id: &str| config.replace("[source.main]\n", &format!("[source.main]\nid = \"{id}\"\n"));
    assert_ne!(pinned(&id), config);
    sandbox.write("sidekeep.toml", &pinned(&id));
    sandbox.ok(&admin(&["source", "rename", "main", "other"]));
    sandbox.ok(&["backup"]);
    sandbox.ok(&admin(&["restore", "latest", "--source", "main", "--to", "out.sqlite"]));
    sandbox.ok(&["status"]);
    // Without the pin, a retired source would be replaced by a new one of the same name.
    sandbox.ok(&admin(&["source", "retire", "main", "--reason", "replaced"]));
    assert!(sandbox.fails(2, &["backup"]).contains("is retired"));
    sandbox.write("sidekeep.toml", &pinned("00000000000000000000000000000000"));
    let message = sandbox.fails(2, &["backup"]);
    assert!(message.contains("no source named \"00000000"), "{message}");
    sandbox.write("sidekeep.toml", &pinned("main"));
    sandbox.fails(2, &["backup"]);
}

#[test]
fn tags_that_look_like_ids_are_refused() {
    let sandbox = Sandbox::with_service();
    for tag in ["abc", &"0".repeat(64), "latest", "CAFE"] {
        assert!(sandbox.fails(2, &["backup", "--tag", tag]).contains("must not look like an id"), "{tag}");
    }
}
