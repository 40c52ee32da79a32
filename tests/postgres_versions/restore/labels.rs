//! Security labels of a provider that accepts every label.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sidekeep::engine::postgres::restore::{Owners, TargetOptions};

use crate::support::postgres::cluster::{Cluster, Settings};
use crate::support::postgres::compare::assert_same;
use crate::support::postgres::stage::{Stage, refused};

/// The header of a module depends on the server's version, which is passed to the compiler. It changed in 15 and 18.
const PROVIDER: &str = r#"
    struct magic {
        int len, version, args, keys, name, by_value;
    #if MAJOR >= 15
        char abi[32];
    #endif
    #if MAJOR >= 18
        const char *module, *module_version;
    #endif
    };
    const struct magic *Pg_magic_func(void) {
        static const struct magic magic = { sizeof(struct magic), MAJOR * 100, 100, 32, 64, 1,
    #if MAJOR >= 15
            "PostgreSQL"
    #endif
        };
        return &magic;
    }
    extern void register_label_provider(const char *, void (*)(const void *, const char *));
    static void take(const void *object, const char *label) {}
    void _PG_init(void) { register_label_provider("dummy", take); }
"#;

/// Labels on every kind of object that can have one, except languages and tablespaces: `pg_dump` leaves out the label
/// of plpgsql because it is a member of an extension, and a tablespace belongs to the cluster.
const LABELLED: &str = r"
    CREATE ROLE ann; CREATE TABLE t (a int); CREATE VIEW v AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT 1;
    CREATE SEQUENCE s; CREATE SCHEMA o; CREATE TYPE o.ty AS (a int); CREATE DOMAIN d AS int;
    CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();
    CREATE PROCEDURE p(a int) LANGUAGE plpgsql AS 'BEGIN END';
    CREATE AGGREGATE g(int) (SFUNC = int4pl, STYPE = int); CREATE PUBLICATION pub;
    CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE ft (a int) SERVER far;
    SELECT lo_create(7001); SELECT lo_create(7002);
    SECURITY LABEL FOR dummy ON TABLE t IS 'it''s'; SECURITY LABEL FOR dummy ON COLUMN t.a IS 'a';
    SECURITY LABEL FOR dummy ON VIEW v IS 'v'; SECURITY LABEL FOR dummy ON COLUMN v.a IS 'va';
    SECURITY LABEL FOR dummy ON MATERIALIZED VIEW m IS 'm'; SECURITY LABEL FOR dummy ON SEQUENCE s IS 's';
    SECURITY LABEL FOR dummy ON FOREIGN TABLE ft IS 'ft';
    SECURITY LABEL FOR dummy ON SCHEMA o IS 'o'; SECURITY LABEL FOR dummy ON TYPE o.ty IS 'ty';
    SECURITY LABEL FOR dummy ON DOMAIN d IS 'd'; SECURITY LABEL FOR dummy ON PUBLICATION pub IS 'pub';
    SECURITY LABEL FOR dummy ON FUNCTION f() IS 'f'; SECURITY LABEL FOR dummy ON PROCEDURE p(int) IS 'p';
    SECURITY LABEL FOR dummy ON AGGREGATE g(int) IS 'g';
    SECURITY LABEL FOR dummy ON ROLE ann IS 'ann'; SECURITY LABEL FOR dummy ON EVENT TRIGGER e IS 'e';
    SECURITY LABEL FOR dummy ON DATABASE service IS 'd';
    SECURITY LABEL FOR dummy ON LARGE OBJECT 7001 IS E'back\slash''s'";

#[test]
fn labels_are_restored_unless_owners_are_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let (source, module) = (dir.path().join("label.c"), dir.path().join("label.so"));
    std::fs::write(&source, PROVIDER).expect("a file");
    let Some(plain) = Cluster::start() else { return };
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-w", &format!("-DMAJOR={}", plain.version()), "-o"]).arg(&module).arg(&source);
    if !cc.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no C compiler");
        return;
    }
    let conf = vec![format!("session_preload_libraries = '{}'", module.display())];
    let Some(cluster) = Cluster::start_with(&Settings { conf, ..Settings::default() }) else { return };
    cluster.create_database("service", "TEMPLATE template0");
    cluster.sql("service", LABELLED);
    let stage = Stage::over(cluster, "service");
    let labels = |cluster: &Cluster, database: &str| {
        let sql = "SELECT objtype, replace(objname, current_database(), 'd'), label FROM pg_seclabels
            WHERE objtype <> 'database' OR objname = current_database() ORDER BY 1, 2";
        cluster.sql(database, sql)
    };
    assert_eq!(labels(&stage.cluster, "service").len(), 18);
    let of_ann = |label: &str| format!("SECURITY LABEL FOR dummy ON ROLE ann IS '{label}'");
    stage.cluster.sql("postgres", &of_ann("changed"));
    assert_eq!(refused(&stage.restored("copy", TargetOptions::default())), [""; 0]);
    let role = "SELECT label FROM pg_seclabels WHERE objtype = 'role'";
    assert_eq!(stage.cluster.sql("copy", role), [[Some("changed".to_owned())]], "an existing role stays unchanged");
    assert_eq!(labels(&stage.cluster, "copy"), labels(&stage.cluster, "service"));
    assert_same((&stage.cluster, "service"), (&stage.cluster, "copy"));

    let restored = |name: &str, owners| {
        plain.create_database(name, "TEMPLATE template0");
        let options = TargetOptions { owners, ..TargetOptions::default() };
        refused(&stage.restore(&mut stage.target(&plain, name, options), &[]).expect("a restore"))
    };
    // On a server without the provider, each label is named.
    let lines = restored("without", Owners::Restore);
    let objects = [
        "SECURITY LABEL ROLE ann",
        "TABLE t",
        "FUNCTION f()",
        "EVENT TRIGGER e",
        "DATABASE service",
        "large objects 7001 to 7002",
        "TYPE ty",
        "VIEW v",
    ];
    for object in objects {
        assert!(lines.iter().any(|line| line.contains(&format!("{object}: "))), "{object} in {lines:#?}");
    }
    assert!(lines.len() == 16 && lines.iter().all(|line| line.contains("\"dummy\" is not loaded")), "{lines:#?}");
    assert_eq!(restored("nobody", Owners::LeaveOut), [""; 0]);
}
