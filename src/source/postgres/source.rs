//! A PostgreSQL database as a source: one image, its catalog and schema, and the rows of its tables as canonical
//! cells.

use std::collections::HashSet;
use std::sync::Arc;

use crate::format::cell::{Cell, OwnedCell};
use crate::source::contract::{Column, Description, Engine, Gap, Reader, RowSink, SinkError, Source, SourceError};
use crate::source::postgres::address::Address;
use crate::source::postgres::catalog::{PgColumn, PgTable};
use crate::source::postgres::client::Client;
use crate::source::postgres::connect::place_for_tools;
use crate::source::postgres::dump::{DumpEncoding, Request, Search, Tools};
use crate::source::postgres::hold::{Attempt, Held, hold};
use crate::source::postgres::image::{Claim, Image};
use crate::source::postgres::pace::Pace;
use crate::source::postgres::read_options::{Gentle, ReadOptions};
use crate::source::postgres::rows::{RowReader, RowsError};
use crate::source::postgres::schema;
use crate::source::postgres::slice::{Slice, slices};
use crate::source::postgres::transport::{ColumnType, Mode, SessionEncoding, Types};
use crate::source::postgres::user_types::{Aspect, UserTypes};
use crate::source::postgres::watch::Watch;

/// A database, opened for one snapshot.
pub struct PostgresSource {
    address: Arc<Address>,
    /// Where `pg_dump` may be.
    search: Search,
    mode: Mode,
    options: ReadOptions,
    open: Option<Open>,
}

struct Open {
    image: Image,
    watch: Watch,
    types: UserTypes,
    tables: Vec<Readable>,
    encoding: SessionEncoding,
}

/// A table, ready to be read.
struct Readable {
    name: String,
    /// Names and types, in the order of delivery.
    columns: Vec<(String, ColumnType)>,
    /// A column whose type is not known: an error only if somebody wants the rows.
    unknown: Option<String>,
    condition: Option<String>,
    slices: Vec<Slice>,
}

impl Readable {
    fn of(table: &PgTable, types: &Types, slices: Vec<Slice>) -> Self {
        let named = || table.table.columns.iter().zip(&table.columns);
        let typed =
            |(column, stored): (&Column, &PgColumn)| Some((column.name.clone(), types.get(stored.type_oid)?.clone()));
        let unknown = named().find(|(_, stored)| types.get(stored.type_oid).is_none());
        Self {
            name: table.table.name.clone(),
            columns: named().filter_map(typed).collect(),
            unknown: unknown.map(|(column, _)| column.name.clone()),
            condition: table.condition.as_ref().map(|sql| format!("({sql})")),
            slices,
        }
    }
}

impl PostgresSource {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(address: Address, search: Search) -> Self {
        let (mode, options) = (Mode::default(), ReadOptions::default());
        Self { address: Arc::new(address), search, mode, options, open: None }
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

    /// Schema and gaps.
    fn schema(&self, held: &Held) -> Result<Attempt<(Vec<u8>, Vec<Gap>)>, SourceError> {
        let Held { image, watch, catalog, types } = held;
        let facts = image.facts();
        let doing = "read the schema";
        let major = u32::try_from(facts.version / 10_000).unwrap_or(0);
        let tools = Tools::find(&self.search, major).map_err(|error| failed(doing, error))?;
        let place = place_for_tools(image.address())?;
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
        let (mut document, mut gaps) = match schema::read(leader, &tools, &request) {
            Ok(read) => read,
            Err(error) => match error.not_locked() {
                Some(how) if watch.verdict().is_none() => {
                    return Ok(Attempt::Disturbed(format!("somebody wanted to alter a table ({how})")));
                }
                _ => return Err(failed(doing, described(&error))),
            },
        };
        // The tools ask for some names as they are now.
        if let Some(name) = types.altered(image, watch, Aspect::Definition)?.first() {
            return Ok(Attempt::Disturbed(format!("type {name} was altered")));
        }
        let (sequences, unread) = schema::sequences(leader).map_err(|error| failed(doing, described(&error)))?;
        document.sequences = sequences;
        gaps.extend(unread);
        Ok(Attempt::Done((document.to_bytes(), gaps)))
    }
}

impl Source for PostgresSource {
    fn describe(&mut self) -> Result<Description, SourceError> {
        let mut look = |held: &Held| self.schema(held).map_err(|error| held.watch.verdict().map_or(error, Into::into));
        let (held, (schema, gaps)) = hold(&self.address, &mut look)?;
        let Held { image, watch, catalog: mut found, types: user_types } = held;
        let leader = Arc::clone(image.leader());
        let types = Types::load(&leader)?;
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
        let readable =
            |table: &PgTable| Readable::of(table, &types, slices(&table.parts, facts.version, &self.options));
        let bytes_estimate = bytes_of(&leader, &found.tables)?;
        let readable = found.tables.iter().map(readable).collect();
        let tables = found.tables.into_iter().map(|table| table.table).collect();
        let gaps = found.gaps.drain(..).chain(gaps).collect();
        self.open = Some(Open { image, watch, types: user_types, tables: readable, encoding });
        let (identity, source_clock) = (facts.identity, facts.clock);
        let engine = Engine::Postgres;
        Ok(Description { engine, identity, source_clock, schema, tables, bytes_estimate, gaps })
    }

    fn parts(&self, table: usize) -> usize {
        self.open.as_ref().and_then(|open| open.tables.get(table)).map_or(1, |table| table.slices.len())
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, SourceError> {
        let wanted = match self.options.gentle {
            Gentle::Yes => 1,
            Gentle::No => self.options.sessions.get(),
        };
        let (mode, pace) = (self.mode, Arc::new(Pace::new(self.options.max_rate)));
        let open = self.open.as_mut().ok_or_else(|| failed("read the tables", "the image is not open"))?;
        let mut sessions = vec![(Arc::clone(open.image.leader()), Claims::HeldByLeader)];
        for _ in 1..wanted {
            sessions.push((open.image.worker()?, Claims::Own(HashSet::new())));
        }
        let open = &*open;
        let reader = |(client, claims)| -> Box<dyn Reader + '_> {
            Box::new(Session { open, client, claims, mode, pace: Arc::clone(&pace) })
        };
        Ok(sessions.into_iter().map(reader).collect())
    }

    fn release(&mut self) -> Result<Vec<Gap>, SourceError> {
        let Some(Open { image, watch, types, .. }) = self.open.take() else { return Ok(Vec::new()) };
        // Before others are let in, who may alter types next.
        let gaps = types.gaps(&image, &watch);
        drop(watch);
        image.release()?;
        Ok(gaps?)
    }
}

/// One session of the image at work.
struct Session<'s> {
    open: &'s Open,
    client: Arc<Client>,
    claims: Claims,
    mode: Mode,
    pace: Arc<Pace>,
}

/// Which tables a session holds locks of.
enum Claims {
    /// All of them.
    HeldByLeader,
    Own(HashSet<String>),
}

impl Session<'_> {
    /// The session that reads a table: this one, unless somebody queues up for the table. Then it is the leader, who
    /// holds its lock already and whom the watch looks after.
    fn claim(&mut self, table: &str) -> Result<Arc<Client>, SourceError> {
        if let Claims::Own(claimed) = &mut self.claims
            && !claimed.contains(table)
        {
            match self.open.image.claim(&self.client, table)? {
                Claim::Held => claimed.insert(table.to_owned()),
                Claim::SomebodyWaits => return Ok(Arc::clone(self.open.image.leader())),
            };
        }
        Ok(Arc::clone(&self.client))
    }

    fn read_slice(&mut self, table: &Readable, slice: &Slice, sink: &mut dyn RowSink) -> Result<(), SourceError> {
        let client = self.claim(&slice.sql_name)?;
        let selected: Vec<String> = table.columns.iter().map(|(name, kind)| kind.select(name, self.mode)).collect();
        let conditions: Vec<&str> = table.condition.as_deref().into_iter().chain(slice.range.as_deref()).collect();
        let only_those = if conditions.is_empty() { "" } else { " WHERE " };
        let (columns, those) = (selected.join(", "), conditions.join(" AND "));
        let select = format!("SELECT {columns} FROM ONLY {}{only_those}{those}", slice.sql_name);
        let mut reader = RowReader::new(&table.name, &table.columns, self.mode, self.open.encoding);
        copy(&client, &table.name, &select, &mut |message| {
            self.pace.spend(message.len());
            reader.push(message, sink).map_err(rows_error)
        })?;
        reader.finish().map(|_| ()).map_err(rows_error)
    }
}

impl Reader for Session<'_> {
    fn read(&mut self, table: usize, part: usize, sink: &mut dyn RowSink) -> Result<Vec<Gap>, SourceError> {
        let open = self.open;
        let of = open.tables.get(table).ok_or_else(|| failed("read a table", "there is no such table"))?;
        if let Some(column) = &of.unknown {
            let reason = format!("the type of column {column} is not known");
            return Err(failed(format!("read {}", of.name), reason));
        }
        // A partitioned table without partitions is read all the same, and has no rows.
        if of.slices.is_empty() {
            return Ok(Vec::new());
        }
        let slice = of.slices.get(part).ok_or_else(|| failed("read a table", "there is no such part"))?;
        // What the watch did to us shows as a lost connection.
        self.read_slice(of, slice, sink).map_err(|error| open.watch.verdict().map_or(error, Into::into))?;
        Ok(Vec::new())
    }
}

fn copy(
    client: &Client,
    table: &str,
    select: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
    for message in client.copy_out(&format!("reading {table}"), &sql)? {
        take(&message?)?;
    }
    Ok(())
}

/// Bytes of these tables with the values that lie outside of their rows; none if the server does not say.
fn bytes_of(client: &Client, tables: &[PgTable]) -> Result<Option<u64>, SourceError> {
    let oids: Vec<String> = tables.iter().flat_map(|table| &table.parts).map(|part| part.oid.to_string()).collect();
    let sql = format!(
        "SELECT coalesce(sum(pg_catalog.pg_table_size(t)), 0) FROM unnest('{{{}}}'::regclass[]) AS t",
        oids.join(",")
    );
    Ok(client.value("asking how large the tables are", &sql)?.parse().ok())
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
    copy(client, "a column's default", &select, &mut |message| reader.push(message, &mut first).map_err(rows_error))?;
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
