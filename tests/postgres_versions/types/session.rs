//! A test session that reads tables as cells and writes cells into tables, using only the code under test.

use bytes::Bytes;
use futures_util::SinkExt;
use sidekeep::engine::contract::{RowSink, SinkError};
use sidekeep::engine::postgres::connect::client::Client;
use sidekeep::engine::postgres::connect::identifier::quote_identifier;
use sidekeep::engine::postgres::connect::session_settings::{SessionEncoding, SessionSettings};
use sidekeep::engine::postgres::value::column_type::{ColumnType, FormatPreference, PgTypes};
use sidekeep::engine::postgres::value::copy_decoder::{CopyColumn, RowReader};
use sidekeep::engine::postgres::value::copy_encoder::push_line;
use sidekeep::engine::postgres::value::field_encoder::{CopyFit, EncodeTarget};
use sidekeep::engine::postgres::value::parameter::Parameter;
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::cell::{Cell, OwnedCell};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;

use crate::support::postgres::cluster::Cluster;

pub type Rows = Vec<Vec<OwnedCell>>;

pub struct Session {
    /// Reads, with the settings of a backup.
    client: Client,
    /// Writes, with the settings of a restore.
    raw: tokio_postgres::Client,
    runtime: Handle,
    pub version: u32,
    pub encoding: SessionEncoding,
}

#[derive(Default)]
struct Kept(Rows);

impl RowSink for Kept {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.0.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }
}

/// How rows were written to a table.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Ways {
    pub copied: usize,
    pub inserted: usize,
}

impl Session {
    pub fn open(cluster: &Cluster, database: &str) -> Self {
        let client = cluster.client(database);
        let encoding = client.texts("the encoding", "SHOW server_encoding").expect("an answer")[0][0].clone();
        let encoding = SessionEncoding::for_server(&encoding.expect("a name"));
        let runtime = cluster.runtime();
        let (raw, connection) =
            runtime.block_on(cluster.config(database).connect(tokio_postgres::NoTls)).expect("a session");
        runtime.spawn(connection);
        SessionSettings::of_image(encoding.name()).apply(&client).expect("settings of a backup");
        let settings = SessionSettings::of_restore(encoding.name());
        let applied = runtime.block_on(raw.query(settings.sql, &[&settings.names, &settings.values]));
        applied.expect("settings of a restore");
        Self { client, raw, runtime, version: cluster.version(), encoding }
    }

    pub fn sql(&self, sql: &str) {
        if let Err(error) = self.try_sql(sql) {
            panic!("{error}: {sql}");
        }
    }

    pub fn try_sql(&self, sql: &str) -> Result<(), String> {
        self.client.execute("a test's statement", sql).map_err(|error| error.to_string())
    }

    pub fn texts(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.client.texts("a test's query", sql).expect(sql)
    }

    /// The data that a COPY of this query sends, without its message boundaries.
    pub fn copy(&self, query: &str) -> Result<Vec<u8>, String> {
        let sql = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let messages = self.client.copy_out("copy", &sql).map_err(|error| format!("{error:?}"))?;
        // After an error the stream would return errors forever.
        let parts: Result<Vec<Bytes>, _> = messages.collect();
        Ok(parts.map_err(|error| format!("{error:?}"))?.concat())
    }

    pub fn columns(&self, table: &str) -> Vec<(String, ColumnType)> {
        let sql = "SELECT attname::text, atttypid FROM pg_catalog.pg_attribute \
                   WHERE attrelid = $1::text::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let types = PgTypes::load(&self.client).expect("types");
        let rows = self.client.query("columns", sql, &[&table]).expect(table);
        rows.iter().map(|row| (row.get(0), types.get(row.get(1)).expect("a type").clone())).collect()
    }

    pub fn read(&self, table: &str, preference: FormatPreference) -> Result<Rows, String> {
        let columns = self.columns(table);
        let items: Vec<String> = columns.iter().map(|(name, of)| of.select(name, preference)).collect();
        let order = if columns[0].0 == "n" { "ORDER BY t.n" } else { "" };
        let sql = format!("COPY (SELECT {} FROM {table} AS t {order}) TO STDOUT (FORMAT binary)", items.join(", "));
        let columns = columns.iter().map(|(name, of)| CopyColumn::new(name, of, preference)).collect();
        let mut reader = RowReader::new(table, columns, self.encoding);
        let mut kept = Kept::default();
        for message in self.client.copy_out("read", &sql).map_err(|error| error.to_string())? {
            let message = message.map_err(|error| error.to_string())?;
            // Split where no server would split.
            let (a, b) = message.split_at(message.len() / 3);
            for part in [a, b] {
                reader
                    .push(part, &mut kept)
                    .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
            }
        }
        assert_eq!(reader.finish().expect("the end"), kept.0.len() as u64);
        Ok(kept.0)
    }

    pub fn place(&self) -> EncodeTarget {
        EncodeTarget { version: self.version, encoding: self.encoding }
    }

    pub fn write(&self, table: &str, rows: &Rows) -> Result<Ways, String> {
        let columns = self.columns(table);
        let kinds: Vec<ValueKind> = columns.iter().map(|(_, of)| of.kind).collect();
        let names: Vec<String> = columns.iter().map(|(name, _)| quote_identifier(name)).collect();
        let (mut lines, mut ways) = (Vec::new(), Ways::default());
        for row in rows {
            let cells: Vec<Cell<'_>> = row.iter().map(OwnedCell::get).collect();
            match push_line(&mut lines, &cells, &kinds, self.place()).map_err(|error| error.to_string())? {
                CopyFit::Fits => ways.copied += 1,
                CopyFit::Unfit => {
                    self.insert(table, &names, &cells, &kinds)?;
                    ways.inserted += 1;
                }
            }
        }
        let sql = format!("COPY {table} ({}) FROM STDIN", names.join(", "));
        let written = self.runtime.block_on(async {
            let mut sink = Box::pin(self.raw.copy_in::<_, Bytes>(&sql).await?);
            sink.send(Bytes::from(lines)).await?;
            sink.close().await
        });
        written.map_err(|error| format!("{error:?}"))?;
        Ok(ways)
    }

    fn insert(&self, table: &str, names: &[String], cells: &[Cell<'_>], kinds: &[ValueKind]) -> Result<(), String> {
        let place = self.place();
        let values: Vec<Parameter<'_>> =
            cells.iter().zip(kinds).map(|(cell, kind)| Parameter { cell: *cell, kind: *kind, target: place }).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let marks: Vec<String> = (1..=values.len()).map(|at| format!("${at}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), marks.join(", "));
        let inserted = self.runtime.block_on(self.raw.execute(&sql, &values));
        inserted.map(drop).map_err(|error| format!("{error:?}"))
    }
}
