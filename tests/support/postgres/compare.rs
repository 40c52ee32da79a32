//! Compares two databases: schema as dumped by `pg_dump`, every row of every table, sequences, settings. Independent
//! of the code under test.

use std::collections::BTreeMap;

use crate::support::postgres::cluster::Cluster;

/// The comparable content of a database.
#[derive(PartialEq, Eq, Debug)]
pub struct Image {
    pub schema: String,
    pub facts: BTreeMap<String, String>,
}

/// Panics with the first difference.
pub fn assert_same((a, of_a): (&Cluster, &str), (b, of_b): (&Cluster, &str)) {
    assert_alike(&image(a, of_a), &image(b, of_b));
}

/// Like [`assert_same`], for images taken earlier.
pub fn assert_alike(a: &Image, b: &Image) {
    for (one, other) in a.schema.lines().zip(b.schema.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(a.schema, b.schema);
    for (what, fact) in &a.facts {
        assert_eq!((what, Some(fact)), (what, b.facts.get(what)), "{what}");
    }
    assert_eq!(a.facts, b.facts);
}

pub fn image(cluster: &Cluster, database: &str) -> Image {
    Image { schema: schema(cluster, database), facts: facts(cluster, database) }
}

/// The schema with owners, grants, comments and settings of the database. The database's name is replaced by `db`.
pub fn schema(cluster: &Cluster, database: &str) -> String {
    let mut dump = cluster.command("pg_dump");
    dump.args(["-h", cluster.socket_dir().to_str().expect("text"), "-p", &cluster.port().to_string()]);
    dump.args(["-U", "postgres", "--schema-only", "--create", "-B", database]);
    let output = dump.output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = |line: &&str| !line.starts_with('\\') && !line.starts_with("-- ");
    let quoted = format!("\"{}\"", database.replace('"', "\"\""));
    let bare = |line: &str| line.replace(&quoted, "db").replace(&format!("DATABASE {database} "), "DATABASE db ");
    let lines = text.lines().filter(wanted).map(bare);
    // pg_dump lists them in the order of the roles' oids, which may differ.
    let (mut settings, others): (Vec<String>, Vec<String>) = lines.partition(|line| line.starts_with("ALTER ROLE "));
    settings.sort();
    others.iter().chain(&settings).map(|line| format!("{line}\n")).collect()
}

fn facts(cluster: &Cluster, database: &str) -> BTreeMap<String, String> {
    let texts = |sql: &str| -> Vec<Vec<Option<String>>> { cluster.sql(database, sql) };
    let one = |sql: &str| format!("{:?}", texts(sql));
    let mut facts = BTreeMap::new();
    let tables = texts(
        "SELECT format('%I.%I', nspname, relname), relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE (relkind = 'r' OR relkind = 'm' AND relispopulated) AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema')",
    );
    for row in tables {
        let name = row[0].clone().expect("a name");
        let sql = format!(
            "SET search_path = ''; SET extra_float_digits = 3; SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM ONLY {name} t"
        );
        facts.insert(format!("rows of {name}"), one(&sql));
    }
    for row in texts("SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences") {
        let name = row[0].clone().expect("a name");
        facts.insert(format!("sequence {name}"), one(&format!("SELECT last_value, is_called FROM {name}")));
    }
    let plain = [
        (
            "settings",
            "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
        ),
        ("statistics", "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace >= 16384 AND reltuples < 0"),
        (
            "large objects",
            "SELECT oid, pg_get_userbyid(lomowner), lomacl, obj_description(oid, 'pg_largeobject'),
                (SELECT array_agg(provider || '=' || label) FROM pg_seclabel WHERE objoid = m.oid AND classoid = 'pg_largeobject'::regclass)
                FROM pg_largeobject_metadata m ORDER BY oid",
        ),
    ];
    for (what, sql) in plain {
        facts.insert(what.to_owned(), one(sql));
    }
    facts.remove("statistics");
    facts
}
