//! A server with a database full of objects, and its schema as Sidekeep reads it.

use std::sync::atomic::AtomicBool;

use sidekeep::base::finding::Finding;
use sidekeep::engine::postgres::connect::client::Client;
use sidekeep::engine::postgres::connect::tool_connection::ToolConnection;
use sidekeep::engine::postgres::schema::catalog::{self, PgCatalog};
use sidekeep::engine::postgres::schema::document::SchemaDocument;
use sidekeep::engine::postgres::schema::document_reader;
use sidekeep::engine::postgres::schema::dump::{DumpEncoding, DumpRequest, DumpTools, ToolSearch};

use crate::support::postgres::cluster::Cluster;
pub use crate::support::postgres::objects::DATABASE;
use crate::support::postgres::objects::{ROLES, objects};

/// A server with every kind of object.
pub fn full() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.sql("postgres", ROLES);
    cluster.create_database(DATABASE, "TEMPLATE template0");
    cluster.client(DATABASE).execute("making objects", &objects(cluster.version())).expect("objects");
    Some(cluster)
}

pub fn session(cluster: &Cluster, database: &str, role: &str) -> Client {
    let mut config = cluster.config(database);
    config.user(role);
    Client::connect(&config, "the test's server").expect("a session")
}

pub fn tools(cluster: &Cluster) -> DumpTools {
    let configured = Some(cluster.client_bin());
    DumpTools::find(&ToolSearch { configured, ..ToolSearch::default() }, cluster.version())
        .expect("a pg_dump that supports the server")
}

/// What a backup as `role` would capture.
pub struct Taken {
    pub document: SchemaDocument,
    pub catalog: PgCatalog,
    /// Only the gaps of the schema.
    pub gaps: Vec<Finding>,
}

pub fn take_as(cluster: &Cluster, database: &str, role: &str, encoding: DumpEncoding) -> Taken {
    let mut config = cluster.config(database);
    config.user(role);
    let client = session(cluster, database, role);
    client.execute("begin", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").expect("begin");
    let snapshot = client.texts("export", "SELECT pg_export_snapshot()").expect("a snapshot");
    let catalog = catalog::read_catalog(&client).expect("a catalog");
    let (connection, cancelled) = (ToolConnection::of(&config), AtomicBool::new(false));
    let request = DumpRequest {
        connection: &connection,
        snapshot: snapshot[0][0].as_deref(),
        encoding,
        excluded_tables: &catalog.unreadable,
        excluded_sequences: &catalog.unreadable_sequences,
        cancelled: &cancelled,
    };
    let (document, gaps) = document_reader::read_document(&client, &tools(cluster), &request).expect("a schema");
    Taken { document, catalog, gaps }
}

pub fn take(cluster: &Cluster, database: &str) -> Taken {
    take_as(cluster, database, "postgres", DumpEncoding::Utf8)
}

/// Runs the statements of a document one by one, as a restore does.
pub fn build(cluster: &Cluster, document: &SchemaDocument, database: &str) {
    let client = cluster.client(database);
    let run = |sql: Vec<u8>| {
        let mut sql = String::from_utf8(sql).expect("text");
        if cluster.version() < 16 {
            // An older server does not know all options of a subscription that a newer pg_dump writes.
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

/// The reason of the gap for this object. Panics if there is no such gap.
pub fn reason_of<'a>(gaps: &'a [Finding], object: &str) -> &'a str {
    let found = gaps.iter().find(|gap| gap.object == object);
    found.map(|gap| gap.detail.as_str()).unwrap_or_else(|| panic!("no gap named {object}: {gaps:?}"))
}
