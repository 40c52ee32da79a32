//! A PostgreSQL database as a source: one image, its catalog and schema, and the rows of its tables as canonical cells.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::base::causes;
use crate::base::finding::Finding;
use crate::base::shared_text::SharedTexts;
use crate::engine::contract::{Column, Description, Engine, EngineError, Reader, Source, Table};
use crate::engine::postgres::backup::image::{ImageFacts, PgImage};
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::locked_image::{ImageAttempt, LockedImage, open_locked_image};
use crate::engine::postgres::backup::parent_values::find_parent_values;
use crate::engine::postgres::backup::read_options::{Gentle, RateLimiter, ReadOptions};
use crate::engine::postgres::backup::readable_table::{ReadableTable, scan_parts};
use crate::engine::postgres::backup::reader::{Copier, ImageSession, ReadableImage, SessionLocks, failed};
use crate::engine::postgres::backup::user_types::Aspect;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::server_facts::major_version;
use crate::engine::postgres::connect::session_settings::SessionEncoding;
use crate::engine::postgres::connect::tool_connection::tool_connection;
use crate::engine::postgres::schema::catalog::PgCatalog;
use crate::engine::postgres::schema::document::SchemaDocument;
use crate::engine::postgres::schema::document_reader;
use crate::engine::postgres::schema::document_reader::SchemaError;
use crate::engine::postgres::schema::dump::{DumpEncoding, DumpRequest, DumpTools, ToolSearch};
use crate::engine::postgres::schema::table::{LARGE_OBJECTS, PgColumn, PgTable};
use crate::engine::postgres::value::column_type::{FormatPreference, PgTypes};

/// A database, opened for one snapshot.
pub struct PostgresSource {
    address: Arc<Address>,
    /// Where to look for `pg_dump`.
    search: ToolSearch,
    preference: FormatPreference,
    options: ReadOptions,
    open: Option<ReadableImage>,
}

/// A serialized schema, and what is missing from it.
struct Schema {
    document: Vec<u8>,
    gaps: Vec<Finding>,
}

impl PostgresSource {
    /// Does not connect yet.
    #[must_use]
    pub fn new(address: Address, search: ToolSearch) -> Self {
        Self {
            address: Arc::new(address),
            search,
            preference: FormatPreference::default(),
            options: ReadOptions::default(),
            open: None,
        }
    }

    /// Sets the preferred format in which values are transferred.
    #[must_use]
    pub fn with_preference(self, preference: FormatPreference) -> Self {
        Self { preference, ..self }
    }

    /// Sets how much load the backup may put on the server.
    #[must_use]
    pub fn with_options(self, options: ReadOptions) -> Self {
        Self { options, ..self }
    }

    /// How much load the backup may put on the server.
    #[must_use]
    pub fn options(&self) -> ReadOptions {
        self.options
    }

    /// Everything but rows, as of the image.
    fn read_schema(&self, locked: &LockedImage) -> Result<ImageAttempt<Schema>, EngineError> {
        let (mut document, mut gaps) = match self.gather(locked)? {
            ImageAttempt::Done(gathered) => gathered,
            ImageAttempt::Disturbed(how) => return Ok(ImageAttempt::Disturbed(how)),
        };
        // The tools look up some names as of now, not as of the image.
        let LockedImage { image, watchdog, types, .. } = locked;
        if let Some(name) = types.altered(image, watchdog, Aspect::Definition)?.first() {
            return Ok(ImageAttempt::Disturbed(format!("type {name} was altered")));
        }
        let (sequences, unread) =
            document_reader::read_sequences(image.leader()).map_err(|error| schema_failed(&error))?;
        document.sequences = sequences;
        gaps.extend(unread);
        Ok(ImageAttempt::Done(Schema { document: document.to_bytes(), gaps }))
    }

    /// Collects the schema from the server's tools and catalogs.
    fn gather(&self, locked: &LockedImage) -> Result<ImageAttempt<(SchemaDocument, Vec<Finding>)>, EngineError> {
        let LockedImage { image, watchdog, catalog, .. } = locked;
        let facts = image.facts();
        let tools = self.tools(facts.version)?;
        let request = DumpRequest {
            connection: &tool_connection(image.address())?,
            snapshot: Some(image.snapshot()),
            encoding: dump_encoding(facts),
            excluded_tables: &catalog.unreadable,
            excluded_sequences: &catalog.unreadable_sequences,
            cancelled: self.address.cancel.flag(),
        };
        match document_reader::read_document(image.leader(), &tools, &request) {
            Ok(gathered) => Ok(ImageAttempt::Done(gathered)),
            Err(error) => disturbance(&error, watchdog).map(ImageAttempt::Disturbed),
        }
    }

    fn tools(&self, version: i32) -> Result<DumpTools, EngineError> {
        DumpTools::find(&self.search, major_version(version)).map_err(|error| failed(READING_SCHEMA, error))
    }

    /// Opens an image and reads its schema.
    fn open_image(&self) -> Result<(LockedImage, Schema), EngineError> {
        open_locked_image(&self.address, &mut |locked| {
            // A session that the watchdog terminated looks like a lost connection.
            self.read_schema(locked).map_err(|error| locked.watchdog.verdict().map_or(error, Into::into))
        })
    }

    /// Fills in what depends on the types of columns.
    fn complete_columns(&self, image: &PgImage, tables: &mut [PgTable], types: &PgTypes) -> Result<(), EngineError> {
        let copier = Copier {
            client: image.leader(),
            table: "a column's default",
            preference: self.preference,
            encoding: SessionEncoding::for_server(&image.facts().server_encoding),
            limiter: None,
        };
        for PgTable { described, columns, .. } in tables {
            for (column, stored) in described.columns.iter_mut().zip(columns) {
                complete_column(column, stored, types, &copier)?;
            }
        }
        Ok(())
    }

    /// The tables, ready to be read. Marks foreign keys that only the server can follow.
    fn readable_tables(
        &self,
        image: &PgImage,
        tables: &mut [PgTable],
        types: &PgTypes,
    ) -> Result<Vec<ReadableTable>, EngineError> {
        let mut parent_values = find_parent_values(image.leader(), tables, types)
            .map_err(|error| failed("read the foreign keys", causes::describe(&error)))?;
        let mut readable = Vec::with_capacity(tables.len());
        for (at, table) in tables.iter().enumerate() {
            let parts = scan_parts(&table.relations, image.facts().version, &self.options);
            let available = parent_values.remove(&at).unwrap_or_default();
            readable.push(ReadableTable::new(table, types, parts, available));
        }
        Ok(readable)
    }
}

fn complete_column(
    column: &mut Column,
    stored: &PgColumn,
    types: &PgTypes,
    copier: &Copier<'_>,
) -> Result<(), EngineError> {
    let Some(kind) = types.get(stored.type_oid) else { return Ok(()) };
    column.fold = kind.equality(stored.collation).fold();
    if let Some(missing) = &stored.missing {
        column.missing = copier.value(kind, &stored.type_name, missing)?;
    }
    Ok(())
}

/// Names the operation in errors of reading the schema.
const READING_SCHEMA: &str = "read the schema";

fn schema_failed(error: &(dyn std::error::Error + 'static)) -> EngineError {
    failed(READING_SCHEMA, causes::describe(error))
}

fn dump_encoding(facts: &ImageFacts) -> DumpEncoding {
    match SessionEncoding::for_server(&facts.server_encoding) {
        SessionEncoding::Utf8 => DumpEncoding::Utf8,
        SessionEncoding::SqlAscii => DumpEncoding::SqlAscii,
    }
}

impl Source for PostgresSource {
    fn describe(&mut self) -> Result<Description, EngineError> {
        let (locked, schema) = self.open_image()?;
        let LockedImage { image, watchdog, catalog, types: user_types } = locked;
        let PgCatalog { mut tables, mut gaps, .. } = catalog;
        gaps.extend(schema.gaps);
        let types = PgTypes::load(image.leader())?;
        self.complete_columns(&image, &mut tables, &types)?;
        let readable = self.readable_tables(&image, &mut tables, &types)?;
        let description = description(&image, schema.document, tables, gaps)?;
        self.open = Some(ReadableImage {
            encoding: SessionEncoding::for_server(&image.facts().server_encoding),
            limiter: RateLimiter::new(self.options.max_rate),
            leader_turn: Mutex::default(),
            image,
            watchdog,
            types: user_types,
            tables: readable,
        });
        Ok(description)
    }

    fn parts(&self, table: usize) -> usize {
        let table = self.open.as_ref().and_then(|open| open.tables.get(table));
        table.map_or(1, |table| table.parts.len())
    }

    fn request_parent_values(&mut self, table: usize, foreign_key: usize) {
        let table = self.open.as_mut().and_then(|open| open.tables.get_mut(table));
        if let Some(table) = table {
            table.request_parent_values(foreign_key);
        }
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, EngineError> {
        let open = self.open.as_mut().ok_or_else(|| failed("read the tables", "the image is not open"))?;
        for table in &mut open.tables {
            table.lock_parents(&open.image)?;
        }
        let sessions = open_sessions(&mut open.image, &self.options)?;
        let open = &*open;
        let preference = self.preference;
        let reader =
            |(client, locks)| -> Box<dyn Reader + '_> { Box::new(ImageSession { open, client, locks, preference }) };
        Ok(sessions.into_iter().map(reader).collect())
    }

    fn release(&mut self) -> Result<Vec<Finding>, EngineError> {
        let Some(ReadableImage { image, watchdog, types, .. }) = self.open.take() else { return Ok(Vec::new()) };
        // Checked before the locks are released, because the sessions that waited for them may alter types next.
        let gaps = types.gaps(&image, &watchdog);
        drop(watchdog);
        image.release()?;
        Ok(gaps?)
    }
}

/// The leader's session and the workers.
fn open_sessions(image: &mut PgImage, options: &ReadOptions) -> Result<Vec<(Arc<Client>, SessionLocks)>, EngineError> {
    let count = session_count(options);
    let mut sessions = vec![(Arc::clone(image.leader()), SessionLocks::All)];
    for _ in 1..count {
        sessions.push((image.worker()?, SessionLocks::Own(HashSet::new())));
    }
    Ok(sessions)
}

fn description(
    image: &PgImage,
    schema: Vec<u8>,
    tables: Vec<PgTable>,
    gaps: Vec<Finding>,
) -> Result<Description, EngineError> {
    Ok(Description {
        engine: Engine::Postgres,
        identity: image.facts().identity.clone(),
        source_clock: image.facts().clock,
        schema,
        large_object_page: large_object_page(image.leader(), &tables)?,
        bytes_estimate: table_bytes(image.leader(), &tables)?,
        tables: described_tables(tables),
        gaps,
    })
}

fn described_tables(tables: Vec<PgTable>) -> Vec<Table> {
    let mut names = SharedTexts::default();
    let mut described: Vec<Table> = tables.into_iter().map(|table| table.described).collect();
    for table in &mut described {
        table.share_names(&mut names);
    }
    described
}

/// Bytes per page of large objects, if they are in the snapshot. They depend on how the server was built.
fn large_object_page(client: &Client, tables: &[PgTable]) -> Result<Option<u32>, EngineError> {
    if !tables.iter().any(|table| table.described.name == LARGE_OBJECTS) {
        return Ok(None);
    }
    let sql = "SELECT pg_catalog.current_setting('block_size')::integer / 4";
    Ok(client.value("asking for the page size of large objects", sql)?.parse().ok())
}

/// What disturbed reading the schema, if another attempt may succeed.
fn disturbance(error: &SchemaError, watchdog: &LockWatchdog) -> Result<String, EngineError> {
    match error.not_locked() {
        Some(how) if watchdog.verdict().is_none() => Ok(format!("another session wanted to alter a table ({how})")),
        _ => Err(schema_failed(error)),
    }
}

fn session_count(options: &ReadOptions) -> usize {
    match options.gentle {
        Gentle::Yes => 1,
        Gentle::No => options.sessions.get(),
    }
}

/// Bytes of these tables, including TOAST. None if the server does not tell.
fn table_bytes(client: &Client, tables: &[PgTable]) -> Result<Option<u64>, EngineError> {
    let relations = tables.iter().flat_map(|table| &table.relations);
    let oids: Vec<String> = relations.map(|relation| relation.oid.to_string()).collect();
    let sql = format!(
        "SELECT coalesce(sum(pg_catalog.pg_table_size(t)), 0) FROM unnest('{{{}}}'::regclass[]) AS t",
        oids.join(",")
    );
    Ok(client.value("asking for the size of the tables", &sql)?.parse().ok())
}
