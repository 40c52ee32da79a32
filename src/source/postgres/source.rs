//! A PostgreSQL database as a source: one image, its catalog and schema, and the rows of its tables as canonical
//! cells.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::format::cell::{Cell, OwnedCell};
use crate::source::contract::{Description, Engine, Gap, RowSink, SinkError, Source, SourceError};
use crate::source::postgres::address::Address;
use crate::source::postgres::catalog::{self, PgColumn, PgTable};
use crate::source::postgres::client::Client;
use crate::source::postgres::connect::place_for_tools;
use crate::source::postgres::dump::{DumpEncoding, Request, Search, Tools};
use crate::source::postgres::hold::Held;
use crate::source::postgres::image::Image;
use crate::source::postgres::read_options::ReadOptions;
use crate::source::postgres::rows::{RowReader, RowsError};
use crate::source::postgres::schema;
use crate::source::postgres::transport::{ColumnType, Mode, SessionEncoding, Types};
use crate::source::postgres::watch::Watch;

/// A database, opened for one snapshot.
pub struct PostgresSource {
    address: Arc<Address>,
    runtime: Handle,
    /// Where `pg_dump` may be.
    search: Search,
    mode: Mode,
    options: ReadOptions,
    open: Option<Open>,
}

struct Open {
    image: Image,
    watch: Watch,
    tables: Vec<PgTable>,
    types: Types,
    encoding: SessionEncoding,
}

impl PostgresSource {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(address: Address, runtime: Handle, search: Search) -> Self {
        let (mode, options) = (Mode::default(), ReadOptions::default());
        Self { address: Arc::new(address), runtime, search, mode, options, open: None }
    }

    /// The same with another way for values to cross.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same, read as hard as this allows.
    #[must_use]
    pub fn with_options(self, options: ReadOptions) -> Self {
        Self { options, ..self }
    }

    /// How hard it may be read.
    #[must_use]
    pub fn options(&self) -> ReadOptions {
        self.options
    }

    fn opened(&self) -> Result<&Open, SourceError> {
        self.open.as_ref().ok_or_else(|| failed("read a table", "the image is not open"))
    }

    /// Schema and gaps.
    fn schema(&self, image: &Image, catalog: &catalog::Catalog) -> Result<(Vec<u8>, Vec<Gap>), SourceError> {
        let facts = image.facts();
        let doing = "read the schema";
        let major = u32::try_from(facts.version / 10_000).unwrap_or(0);
        let tools = Tools::find(&self.search, major).map_err(|error| failed(doing, error))?;
        let place = place_for_tools(&self.address)?;
        let request = Request {
            place: &place,
            snapshot: Some(image.snapshot()),
            encoding: match SessionEncoding::for_server(&facts.server_encoding) {
                SessionEncoding::Utf8 => DumpEncoding::Utf8,
                SessionEncoding::SqlAscii => DumpEncoding::SqlAscii,
            },
            excluded: &catalog.unreadable,
            closed: &catalog.unreadable_sequences,
            cancelled: self.address.cancel.flag(),
        };
        let leader = image.leader();
        let (mut document, mut gaps) =
            schema::read(leader, &tools, &request).map_err(|error| match error.not_locked() {
                Some(reason) => SourceError::GaveWay { what: self.address.to_string(), reason },
                None => failed(doing, described(&error)),
            })?;
        let (sequences, unread) = schema::sequences(leader).map_err(|error| failed(doing, described(&error)))?;
        document.sequences = sequences;
        gaps.extend(unread);
        Ok((document.to_bytes(), gaps))
    }
}

impl Source for PostgresSource {
    fn describe(&mut self) -> Result<Description, SourceError> {
        let Held { image, watch, catalog: mut found } = Held::begin(&self.address, &self.runtime)?;
        let leader = Arc::clone(image.leader());
        let types = Types::load(&leader)?;
        let schema = self.schema(&image, &found);
        let (schema, gaps) = schema.map_err(|error| watch.verdict().map_or(error, Into::into))?;
        let facts = image.facts().clone();
        let encoding = SessionEncoding::for_server(&facts.server_encoding);
        for table in &mut found.tables {
            for (column, of) in table.table.columns.iter_mut().zip(&table.columns) {
                let Some(kind) = types.get(of.type_oid) else { continue };
                column.fold = kind.equality(of.collation).fold();
                if let Some(missing) = &of.missing {
                    column.missing = default(&leader, (kind, of, missing), encoding, self.mode)?;
                }
            }
        }
        let tables = found.tables.iter().map(|table| table.table.clone()).collect();
        let gaps = found.gaps.drain(..).chain(gaps).collect();
        self.open = Some(Open { image, watch, tables: found.tables, types, encoding });
        let (identity, source_clock) = (facts.identity, facts.clock);
        Ok(Description { engine: Engine::Postgres, identity, source_clock, schema, tables, gaps })
    }

    fn read(&mut self, table: usize, sink: &mut dyn RowSink) -> Result<Vec<Gap>, SourceError> {
        let open = self.opened()?;
        let of = open.tables.get(table).ok_or_else(|| failed("read a table", "there is no such table"))?;
        let name = &of.table.name;
        let mut columns = Vec::with_capacity(of.columns.len());
        for (column, stored) in of.table.columns.iter().zip(&of.columns) {
            let kind = open.types.get(stored.type_oid).ok_or_else(|| {
                failed(format!("read {name}"), format!("the type of column {} is not known", column.name))
            })?;
            columns.push((column.name.clone(), kind.clone()));
        }
        let selected: Vec<String> = columns.iter().map(|(name, kind)| kind.select(name, self.mode)).collect();
        let condition = of.condition.as_ref().map_or_else(String::new, |sql| format!(" {sql}"));
        for part in &of.parts {
            let select = format!("SELECT {} FROM ONLY {}{condition}", selected.join(", "), part.sql_name);
            let mut reader = RowReader::new(name, &columns, self.mode, open.encoding);
            copy(open.image.leader(), name, &select, &mut reader, sink).map_err(|error| {
                match open.watch.verdict() {
                    Some(verdict) => verdict.into(),
                    None => error,
                }
            })?;
            reader.finish().map_err(rows_error)?;
        }
        Ok(Vec::new())
    }

    fn release(&mut self) -> Result<(), SourceError> {
        match self.open.take() {
            Some(open) => {
                drop(open.watch);
                Ok(open.image.release()?)
            }
            None => Ok(()),
        }
    }
}

fn copy(
    client: &Client,
    table: &str,
    select: &str,
    reader: &mut RowReader,
    sink: &mut dyn RowSink,
) -> Result<(), SourceError> {
    let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
    for message in client.copy_out(&format!("reading {table}"), &sql)? {
        reader.push(&message?, sink).map_err(rows_error)?;
    }
    Ok(())
}

/// What rows from before a column have in it, by the way that all its values take.
fn default(
    client: &Client,
    (kind, column, text): (&ColumnType, &PgColumn, &str),
    encoding: SessionEncoding,
    mode: Mode,
) -> Result<OwnedCell, SourceError> {
    struct First(Option<OwnedCell>);
    impl RowSink for First {
        fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
            self.0 = cells.first().map(OwnedCell::new);
            Ok(())
        }
    }
    let literal = text.replace('\'', "''");
    let select = format!(
        "SELECT {} FROM (SELECT '{literal}'::{} AS value) AS one",
        kind.select("value", mode),
        column.type_name
    );
    let mut reader = RowReader::new("a default", &[("value".to_owned(), kind.clone())], mode, encoding);
    let mut first = First(None);
    copy(client, "a column's default", &select, &mut reader, &mut first)?;
    first.0.ok_or_else(|| failed("read a column's default", "there is none"))
}

fn rows_error(error: RowsError) -> SourceError {
    match error {
        RowsError::Sink { source, .. } => SourceError::Sink(source),
        other => failed("read the rows", described(&other)),
    }
}

fn failed(doing: impl Into<String>, reason: impl ToString) -> SourceError {
    SourceError::Failed { doing: doing.into(), reason: reason.to_string() }
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
