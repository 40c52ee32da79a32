//! Builds a database from a snapshot and compares it with the original. Only the server and its own tools read both,
//! not the code under test.

use bytes::Bytes;
use futures_util::SinkExt;
use sidekeep::engine::postgres::connect::identifier::quote_identifier;
use sidekeep::engine::postgres::connect::session_settings::{SessionEncoding, SessionSettings};
use sidekeep::engine::postgres::value::column_type::PgTypes;
use sidekeep::engine::postgres::value::copy_encoder::push_line;
use sidekeep::engine::postgres::value::field_encoder::{CopyFit, EncodeTarget};
use sidekeep::engine::postgres::value::parameter::Parameter;
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::cell::{Cell, OwnedCell};
use tokio_postgres::types::ToSql;

use crate::support::postgres::cluster::{Cluster, SUPERUSER};
use crate::support::postgres::live::{Taken, TakenTable};

/// Every table with its columns by name: the columns of a child table are in another order if columns were added to
/// its parent.
const ROWS: &str = "SELECT format('%I.%I', nspname, relname), CASE relkind WHEN 'r' THEN 'ONLY ' ELSE '' END,
        (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND c.oid >= 16384 AND nspname <> 'information_schema'
        AND nspname NOT LIKE 'pg\\_%' AND NOT EXISTS (SELECT FROM pg_depend
            WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e') ORDER BY format('%I.%I', nspname, relname) COLLATE \"C\"";

/// Builds a new database only from the snapshot, and fails unless it equals the original.
pub fn assert_comes_back(cluster: &Cluster, taken: &Taken, database: &str) {
    let copy = format!("{database} back");
    build(cluster, taken, &copy);
    let (before, after) = (contents(cluster, database), contents(cluster, &copy));
    let names = |contents: &[(String, Vec<String>)]| contents.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    for ((name, after), (_, before)) in after.iter().zip(&before) {
        assert_eq!(after.len(), before.len(), "{name}");
        for (after, before) in after.iter().zip(before) {
            assert!(after == before, "{name}: expected {}, found {}", readable(before), readable(after));
        }
    }
    let (before, after) = (schema(cluster, database), schema(cluster, &copy));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
}

/// The beginning of a row, for a message.
fn readable(hex: &str) -> String {
    let bytes = data_encoding::HEXLOWER.decode(hex.trim_start_matches("\\x").as_bytes()).expect("hexadecimal");
    String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).into_owned()
}

/// The rows of every table, as the server sends them.
fn contents(cluster: &Cluster, database: &str) -> Vec<(String, Vec<String>)> {
    let client = cluster.client(database);
    let encoding = client.value("comparing", "SHOW server_encoding").expect("a name");
    let encoding = SessionEncoding::for_server(&encoding).name();
    let settings = format!("SET extra_float_digits = 3; SET TimeZone = 'UTC'; SET client_encoding = {encoding}");
    client.execute("comparing", &settings).expect("settings");
    let texts = |sql: &str| client.texts("comparing", sql).expect("rows");
    let table = |row: Vec<Option<String>>| {
        let [Some(name), Some(only), columns] = &row[..] else { panic!("{row:?}") };
        let columns = columns.as_deref().unwrap_or_default();
        let rows = texts(&format!("SELECT textsend(ROW({columns})::text) FROM {only}{name} ORDER BY 1"));
        (name.clone(), rows.into_iter().map(|mut row| row.remove(0).expect("bytes")).collect())
    };
    texts(ROWS).into_iter().map(table).collect()
}

/// Everything except rows, from `pg_dump`, line by line.
fn schema(cluster: &Cluster, database: &str) -> Vec<String> {
    let mut dump = cluster.command("pg_dump");
    dump.arg("-h").arg(cluster.socket_dir()).args(["-p", &cluster.port().to_string(), "-U", SUPERUSER]);
    let output = dump.args(["--schema-only", "-B", database]).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.contains("restrict ")).map(ToOwned::to_owned).collect()
}

/// Creates a database with this name only from a snapshot.
pub fn build(cluster: &Cluster, taken: &Taken, database: &str) {
    let server = &taken.document.server;
    let options = format!(
        "TEMPLATE template0 ENCODING '{}' LC_COLLATE '{}' LC_CTYPE '{}'",
        server.encoding, server.collate, server.ctype
    );
    cluster.create_database(database, &options);
    let client = cluster.client(database);
    let run = |sql: Vec<u8>| {
        let sql = String::from_utf8(sql).expect("text");
        if let Err(error) = client.execute("a statement", &sql) {
            panic!("{error}: {sql}");
        }
    };
    let own = taken.document.database.iter().filter(|statement| !statement.sql.lossy().starts_with("CREATE DATABASE"));
    own.for_each(|statement| run(statement.in_database(database)));
    taken.document.pre_data.iter().for_each(|statement| run(statement.sql.bytes()));
    let loader = Loader::open(cluster, database, SessionEncoding::for_server(&server.encoding));
    taken.tables.iter().for_each(|table| loader.load(table));
    taken.document.post_data.iter().for_each(|statement| run(statement.sql.bytes()));
}

/// Writes rows with the code that a restore uses.
struct Loader<'a> {
    cluster: &'a Cluster,
    raw: tokio_postgres::Client,
    types: PgTypes,
    place: EncodeTarget,
}

impl<'a> Loader<'a> {
    fn open(cluster: &'a Cluster, database: &str, encoding: SessionEncoding) -> Self {
        let runtime = cluster.runtime();
        let (raw, connection) =
            runtime.block_on(cluster.config(database).connect(tokio_postgres::NoTls)).expect("a session");
        runtime.spawn(connection);
        let types = PgTypes::load(&cluster.client(database)).expect("types");
        let settings = SessionSettings::of_restore(encoding.name());
        runtime.block_on(raw.query(settings.sql, &[&settings.names, &settings.values])).expect("settings");
        // Foreign keys and triggers are created after the rows, as in a restore.
        Self { cluster, raw, types, place: EncodeTarget { version: cluster.version(), encoding } }
    }

    fn load(&self, table: &TakenTable) {
        let runtime = self.cluster.runtime();
        let sql = "SELECT attname::text, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0";
        let found = runtime.block_on(self.raw.query(sql, &[&table.name])).expect("columns");
        let kind = |name: &String| -> ValueKind {
            let row = found.iter().find(|row| row.get::<_, String>(0) == *name).expect("a column");
            self.types.get(row.get(1)).expect("a type").kind
        };
        let kinds: Vec<ValueKind> = table.columns.iter().map(kind).collect();
        let names: Vec<String> = table.columns.iter().map(|name| quote_identifier(name)).collect();
        let list = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
        let mut lines = Vec::new();
        for row in &table.rows {
            let cells: Vec<Cell<'_>> = row.iter().map(OwnedCell::get).collect();
            match push_line(&mut lines, &cells, &kinds, self.place).expect("values of this server") {
                CopyFit::Fits => {}
                CopyFit::Unfit => self.insert(&table.name, &list, &cells, &kinds),
            }
        }
        let copied = runtime.block_on(async {
            let mut sink =
                Box::pin(self.raw.copy_in::<_, Bytes>(&format!("COPY {} {list} FROM STDIN", table.name)).await?);
            sink.send(Bytes::from(lines)).await?;
            sink.close().await
        });
        copied.unwrap_or_else(|error| panic!("{}: {error:?}", table.name));
    }

    fn insert(&self, table: &str, list: &str, cells: &[Cell<'_>], kinds: &[ValueKind]) {
        let place = self.place;
        let pairs = cells.iter().zip(kinds);
        let values: Vec<Parameter<'_>> =
            pairs.map(|(cell, kind)| Parameter { cell: *cell, kind: *kind, target: place }).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let marks: Vec<String> = (1..=values.len()).map(|at| format!("${at}")).collect();
        let sql = format!("INSERT INTO {table} {list} OVERRIDING SYSTEM VALUE VALUES ({})", marks.join(", "));
        self.cluster.runtime().block_on(self.raw.execute(&sql, &values)).expect("inserted");
    }
}
