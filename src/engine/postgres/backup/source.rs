//! A PostgreSQL database as a source: one image, its catalog and schema, and the rows of its tables as canonical
//! cells.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::base::chain::chain;
use crate::engine::contract::{Description, Engine, Gap, Reader, Source, SourceError};
use crate::engine::postgres::backup::companion;
use crate::engine::postgres::backup::lock_tables::{Attempt, LockedImage, hold};
use crate::engine::postgres::backup::pace::Pace;
use crate::engine::postgres::backup::read_options::{Gentle, ReadOptions};
use crate::engine::postgres::backup::reader::{Claims, Readable, ReadableImage, Session, default, failed};
use crate::engine::postgres::backup::slice::slices;
use crate::engine::postgres::backup::user_types::Aspect;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::connect::tool_connection::tool_connection;
use crate::engine::postgres::schema::document_reader;
use crate::engine::postgres::schema::dump::{DumpEncoding, DumpRequest, DumpTools, ToolSearch};
use crate::engine::postgres::schema::table::PgTable;
use crate::engine::postgres::value::column_type::{FormatPreference, PgTypes};

/// A database, opened for one snapshot.
pub struct PostgresSource {
    address: Arc<Address>,
    /// Where `pg_dump` may be.
    search: ToolSearch,
    mode: FormatPreference,
    options: ReadOptions,
    open: Option<ReadableImage>,
}

/// A schema as it was written down, and what is missing in it.
struct Schema {
    document: Vec<u8>,
    gaps: Vec<Gap>,
}

impl PostgresSource {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(address: Address, search: ToolSearch) -> Self {
        let (mode, options) = (FormatPreference::default(), ReadOptions::default());
        Self { address: Arc::new(address), search, mode, options, open: None }
    }

    /// The same with another way for values to cross.
    #[must_use]
    pub fn with_mode(self, mode: FormatPreference) -> Self {
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

    /// Everything but rows.
    fn schema(&self, held: &LockedImage) -> Result<Attempt<Schema>, SourceError> {
        let LockedImage { image, watch, catalog, types } = held;
        let facts = image.facts();
        let doing = "read the schema";
        let major = u32::try_from(facts.version / 10_000).unwrap_or(0);
        let tools = DumpTools::find(&self.search, major).map_err(|error| failed(doing, error))?;
        let connection = tool_connection(image.address())?;
        let request = DumpRequest {
            connection: &connection,
            snapshot: Some(image.snapshot()),
            encoding: match SessionEncoding::for_server(&facts.server_encoding) {
                SessionEncoding::Utf8 => DumpEncoding::Utf8,
                SessionEncoding::SqlAscii => DumpEncoding::SqlAscii,
            },
            excluded_tables: &catalog.unreadable,
            excluded_sequences: &catalog.unreadable_sequences,
            cancelled: self.address.cancel.flag(),
        };
        let leader = image.leader();
        let (mut document, mut gaps) = match document_reader::read_document(leader, &tools, &request) {
            Ok(read) => read,
            Err(error) => match error.not_locked() {
                Some(how) if watch.verdict().is_none() => {
                    return Ok(Attempt::Disturbed(format!("somebody wanted to alter a table ({how})")));
                }
                _ => return Err(failed(doing, chain(&error))),
            },
        };
        // The tools ask for some names as they are now.
        if let Some(name) = types.altered(image, watch, Aspect::Definition)?.first() {
            return Ok(Attempt::Disturbed(format!("type {name} was altered")));
        }
        let (sequences, unread) =
            document_reader::read_sequences(leader).map_err(|error| failed(doing, chain(&error)))?;
        document.sequences = sequences;
        gaps.extend(unread);
        Ok(Attempt::Done(Schema { document: document.to_bytes(), gaps }))
    }
}

impl Source for PostgresSource {
    fn describe(&mut self) -> Result<Description, SourceError> {
        let mut look =
            |held: &LockedImage| self.schema(held).map_err(|error| held.watch.verdict().map_or(error, Into::into));
        let (held, Schema { document: schema, gaps }) = hold(&self.address, &mut look)?;
        let LockedImage { image, watch, catalog: mut found, types: user_types } = held;
        let leader = Arc::clone(image.leader());
        let types = PgTypes::load(&leader)?;
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
        let mut keys = companion::find(&leader, &mut found.tables, &types)
            .map_err(|error| failed("read the foreign keys", chain(&error)))?;
        let readable = |(at, table): (usize, &PgTable)| {
            let slices = slices(&table.parts, facts.version, &self.options);
            Readable::of(table, &types, slices, keys.remove(&at).unwrap_or_default())
        };
        let bytes_estimate = bytes_of(&leader, &found.tables)?;
        let readable = found.tables.iter().enumerate().map(readable).collect();
        let tables = found.tables.into_iter().map(|table| table.table).collect();
        let gaps = found.gaps.drain(..).chain(gaps).collect();
        let leader_turn = Mutex::default();
        self.open = Some(ReadableImage { image, watch, types: user_types, tables: readable, encoding, leader_turn });
        let (identity, source_clock) = (facts.identity, facts.clock);
        let engine = Engine::Postgres;
        Ok(Description { engine, identity, source_clock, schema, tables, bytes_estimate, gaps })
    }

    fn parts(&self, table: usize) -> usize {
        self.open.as_ref().and_then(|open| open.tables.get(table)).map_or(1, |table| table.slices.len())
    }

    fn follow(&mut self, table: usize, foreign_key: usize) {
        if let Some(of) = self.open.as_mut().and_then(|open| open.tables.get_mut(table)) {
            of.follow(foreign_key);
        }
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, SourceError> {
        let wanted = match self.options.gentle {
            Gentle::Yes => 1,
            Gentle::No => self.options.sessions.get(),
        };
        let (mode, pace) = (self.mode, Arc::new(Pace::new(self.options.max_rate)));
        let open = self.open.as_mut().ok_or_else(|| failed("read the tables", "the image is not open"))?;
        for table in &mut open.tables {
            table.reach_parents(&open.image)?;
        }
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
        let Some(ReadableImage { image, watch, types, .. }) = self.open.take() else { return Ok(Vec::new()) };
        // Before others are let in, who may alter types next.
        let gaps = types.gaps(&image, &watch);
        drop(watch);
        image.release()?;
        Ok(gaps?)
    }
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
