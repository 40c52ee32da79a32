//! A server with a database full of objects, and its schema as the program reads it.

use std::sync::atomic::AtomicBool;

use sidekeep::source::contract::Gap;
use sidekeep::source::postgres::catalog::{self, Catalog};
use sidekeep::source::postgres::client::Client;
use sidekeep::source::postgres::document::Document;
use sidekeep::source::postgres::dump::{DumpEncoding, Request, Search, ToolPlace, Tools};
use sidekeep::source::postgres::schema;

use crate::common_postgres::Cluster;

pub const DATABASE: &str = "nasty; db";
const ROLES: &str =
    "CREATE ROLE ps_app LOGIN PASSWORD 'x'; CREATE ROLE ps_reader LOGIN; CREATE ROLE \"ps \"\"odd\"\" role\";
    CREATE ROLE ps_group; GRANT ps_group TO ps_app WITH ADMIN OPTION; ALTER ROLE ps_app SET lock_timeout = '3s'";

/// What an older server does not know, since when others do, and what that server has instead.
const NEWER: &[(u32, &str, &str)] = &[
    (15, "UNIQUE NULLS NOT DISTINCT (z)", "UNIQUE (z)"),
    (15, "ON DELETE SET NULL (x)", "ON DELETE SET NULL"),
    (15, "TABLE users (id, mail) WHERE (id IS NOT NULL)", "TABLE users"),
    (15, "FOR TABLES IN SCHEMA \"sch;ema\"", "FOR ALL TABLES"),
    (
        14,
        "BEGIN ATOMIC SELECT 1; SELECT CASE WHEN n > 0 THEN 1 ELSE 2 END; SELECT CASE n WHEN 1 THEN CASE WHEN true THEN 5 END END AS \"end\"; END;",
        "AS 'SELECT 1';",
    ),
    (14, "RETURN n + 1;", "AS 'SELECT n + 1';"),
    (14, "BEGIN ATOMIC INSERT INTO app.log_lines VALUES (';'); SELECT 1; END;", "AS 'SELECT 1';"),
];

/// A server with every kind of object.
pub fn full() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.sql("postgres", ROLES);
    cluster.create_database(DATABASE, "TEMPLATE template0");
    let mut objects = include_str!("objects.sql").replace("@database@", "\"nasty; db\"");
    for (since, words, instead) in NEWER {
        assert!(objects.contains(words), "{words}");
        if cluster.version() < *since {
            objects = objects.replace(words, instead);
        }
    }
    cluster.client(DATABASE).execute("making objects", &objects).expect("objects");
    Some(cluster)
}

pub fn session(cluster: &Cluster, database: &str, role: &str) -> Client {
    let mut config = cluster.config(database);
    config.user(role);
    Client::connect(&config, "the test's server").expect("a session")
}

pub fn tools(cluster: &Cluster) -> Tools {
    let configured = Some(cluster.client_bin());
    Tools::find(&Search { configured, ..Search::default() }, cluster.version())
        .expect("a pg_dump that knows the server")
}

/// What one backup as `role` would keep.
pub struct Taken {
    pub document: Document,
    pub catalog: Catalog,
    /// Of the schema alone.
    pub gaps: Vec<Gap>,
}

pub fn take_as(cluster: &Cluster, database: &str, role: &str, encoding: DumpEncoding) -> Taken {
    let mut config = cluster.config(database);
    config.user(role);
    let client = session(cluster, database, role);
    client.execute("begin", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").expect("begin");
    let snapshot = client.texts("export", "SELECT pg_export_snapshot()").expect("a snapshot");
    let catalog = catalog::read(&client).expect("a catalog");
    let (place, cancelled) = (ToolPlace::of(&config), AtomicBool::new(false));
    let request = Request {
        place: &place,
        snapshot: snapshot[0][0].as_deref(),
        encoding,
        excluded: &catalog.unreadable,
        closed: &catalog.unreadable_sequences,
        cancelled: &cancelled,
    };
    let (document, gaps) = schema::read(&client, &tools(cluster), &request).expect("a schema");
    Taken { document, catalog, gaps }
}

pub fn take(cluster: &Cluster, database: &str) -> Taken {
    take_as(cluster, database, "postgres", DumpEncoding::Utf8)
}

/// Runs the statements of a document one by one, as a restore does.
pub fn build(cluster: &Cluster, document: &Document, database: &str) {
    let client = cluster.client(database);
    let run = |sql: Vec<u8>| {
        let mut sql = String::from_utf8(sql).expect("text");
        if cluster.version() < 16 {
            // What a newer pg_dump says of a subscription an older server does not understand.
            sql = sql.replace(", streaming = off, run_as_owner = true", "");
        }
        if let Err(error) = client.execute("running a statement", &sql) {
            panic!("{error}: {sql}");
        }
    };
    let own = document.database.iter().filter(|statement| !statement.sql.lossy().starts_with("CREATE DATABASE"));
    own.for_each(|statement| run(statement.in_database(database)));
    let rest = document.pre_data.iter().chain(&document.post_data);
    rest.for_each(|statement| run(statement.sql.bytes()));
}

/// Objects that are named, and the reason of one of them.
pub fn reason_of<'a>(gaps: &'a [Gap], object: &str) -> &'a str {
    let found = gaps.iter().find(|gap| gap.object == object);
    found.map(|gap| gap.reason.as_str()).unwrap_or_else(|| panic!("no gap named {object}: {gaps:?}"))
}
