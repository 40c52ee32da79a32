//! Builds a schema without rows to find out what a target could not recreate. In batches of tables with their indexes
//! and triggers: a table does not depend on others, and each has at least one page in memory while it exists.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::EngineError;
use crate::engine::sqlite::builder::DatabaseBuilder;
use crate::engine::sqlite::schema::{Object, SqliteSchema};
use crate::engine::sqlite::sql::SqlContext;

/// Tables that are created together.
const BATCH_TABLES: usize = 256;

/// What a target could not recreate.
/// Fails if SQLite cannot write a scratch database in memory.
pub(super) fn find_unrestorable(document: &SqliteSchema) -> Result<Vec<Finding>, EngineError> {
    let mut refused = RefusedObjects::default();
    for positions in batches(document) {
        let objects = positions.iter().map(|&at| document.objects[at].clone()).collect();
        refused.add_batch(SqliteSchema { objects, ..document.without_objects() })?;
    }
    let all = refused.tables.into_iter().chain(refused.indexes).chain(refused.others);
    Ok(all.map(gap_of).collect())
}

fn gap_of(refused: Finding) -> Finding {
    Finding::new(FindingKind::NotRestorable, refused.object, refused.detail)
}

/// In the order in which a target creates objects.
#[derive(Default)]
struct RefusedObjects {
    tables: Vec<Finding>,
    indexes: Vec<Finding>,
    others: Vec<Finding>,
}

impl RefusedObjects {
    fn add_batch(&mut self, document: SqliteSchema) -> Result<(), EngineError> {
        let conn = Connection::open_in_memory().doing("open a scratch database")?;
        let mut builder = DatabaseBuilder::new(conn, document)?;
        builder.create_tables()?;
        self.tables.append(&mut builder.refused);
        builder.create_indexes()?;
        self.indexes.append(&mut builder.refused);
        builder.finish_schema()?;
        self.others.append(&mut builder.refused);
        Ok(())
    }
}

/// Positions of all objects, in batches that can be created independently. Views, virtual tables and their triggers are together in
/// the last one.
fn batches(document: &SqliteSchema) -> Vec<Vec<usize>> {
    let objects = &document.objects;
    let numbers = batch_numbers(objects);
    let last = numbers.values().max().map_or(0, |number| number + 1);
    if last <= 1 || !document.has_independent_tables() {
        return vec![(0..objects.len()).collect()];
    }
    let mut batches = vec![Vec::new(); last + 1];
    for (at, object) in objects.iter().enumerate() {
        let number = numbers.get(&object.table.lossy().to_lowercase());
        let is_of_table = object.is_stored_table() || object.is("index") || object.is("trigger");
        batches[number.copied().filter(|_| is_of_table).unwrap_or(last)].push(at);
    }
    batches
}

/// The batch of each table with rows, by name in lower case.
fn batch_numbers(objects: &[Object]) -> HashMap<String, usize> {
    let tables = objects.iter().filter(|object| object.is_stored_table());
    tables.enumerate().map(|(at, table)| (table.name.lossy().to_lowercase(), at / BATCH_TABLES)).collect()
}
