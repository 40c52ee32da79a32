//! How the rows of each table are loaded, given the columns and types that the table has in the target.

use std::collections::HashMap;

use tokio_postgres::Statement;

use crate::engine::contract::{EngineError, TargetTable};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::{QueryError, RowFields};
use crate::engine::postgres::restore::fault::converted_fatal;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::table::{LARGE_OBJECTS, qualified};
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, PgTypes, WireFormat};
use crate::engine::postgres::value::copy_encoder::{BINARY_HEADER, BINARY_TRAILER};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::engine::row_name::row_name;
use crate::format::cell::Cell;

/// How the rows of a table are loaded.
#[derive(Clone, Debug)]
pub(super) struct LoadPlan {
    pub(super) name: String,
    /// Positions and names of the key's columns.
    key: Vec<(usize, String)>,
    pub(super) method: LoadMethod,
}

/// The way in which rows are loaded.
#[derive(Clone, Debug)]
pub(super) enum LoadMethod {
    Copy(CopyPlan),
    LargeObjects,
    /// The rows cannot be loaded, for this reason.
    Refused(String),
}

/// How rows are copied into a table.
#[derive(Clone, Debug)]
pub(super) struct CopyPlan {
    pub(super) kinds: Vec<ValueKind>,
    pub(super) format: CopyFormat,
    /// The `COPY … FROM STDIN` statement.
    pub(super) copy_sql: String,
    /// The INSERT statement for one row, with its values as parameters.
    pub(super) insert_sql: String,
}

/// The format of a COPY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CopyFormat {
    /// Binary format, if the binary form of every column's type is known.
    Binary,
    Text,
}

impl CopyFormat {
    /// The bytes before the first row.
    pub(super) const fn header(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_HEADER,
            Self::Text => &[],
        }
    }

    /// The bytes after the last row.
    pub(super) const fn trailer(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_TRAILER,
            Self::Text => &[],
        }
    }

    /// The options of a COPY statement.
    const fn options(self) -> &'static str {
        match self {
            Self::Binary => " (FORMAT binary)",
            Self::Text => "",
        }
    }
}

impl LoadPlan {
    fn new(table: &TargetTable, method: LoadMethod) -> Self {
        let key = table.key.iter().map(|&at| (at, table.columns[at].name.to_string())).collect();
        Self { name: table.name.clone(), key, method }
    }

    /// Names a row by its key, for messages.
    pub(super) fn key_of(&self, cells: &[Cell<'_>]) -> String {
        row_name(self.key.iter().map(|(at, name)| (name.as_str(), cells.get(*at))))
    }
}

/// A table that exists in the target.
struct ExistingTable {
    /// Quoted for SQL.
    sql_name: String,
    /// OIDs of the columns' types, by column name.
    columns: HashMap<String, u32>,
}

/// Creates the plans of all tables, in the same order.
/// Fails if a query fails. A table that is missing or lacks a column gets [`LoadMethod::Refused`].
pub(super) fn load_plans(session: &TargetSession, tables: &[TargetTable]) -> Result<Vec<LoadPlan>, EngineError> {
    let types = PgTypes::load(&session.client).map_err(|error| converted_fatal(error, &session.server.name))?;
    let existing = existing_tables(session)?;
    let mut plans = Vec::with_capacity(tables.len());
    for table in tables {
        let method = load_method(table, existing.get(&table.name), &types);
        plans.push(LoadPlan::new(table, method));
    }
    Ok(plans)
}

fn load_method(table: &TargetTable, existing: Option<&ExistingTable>, types: &PgTypes) -> LoadMethod {
    if table.name == LARGE_OBJECTS {
        return LoadMethod::LargeObjects;
    }
    let Some(existing) = existing else { return LoadMethod::Refused("the table does not exist".to_owned()) };
    let mut kinds = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        match existing.column_type(&column.name, types) {
            Some(kind) => kinds.push(kind),
            None => return LoadMethod::Refused(format!("the table has no column {}", column.name)),
        }
    }
    LoadMethod::Copy(copy_plan(table, &existing.sql_name, &kinds))
}

impl ExistingTable {
    fn new(schema: &str, table: &str) -> Self {
        let sql_name = format!("{}.{}", quote_identifier(schema), quote_identifier(table));
        Self { sql_name, columns: HashMap::new() }
    }

    fn column_type<'t>(&self, column: &str, types: &'t PgTypes) -> Option<&'t ColumnType> {
        self.columns.get(column).and_then(|oid| types.get(*oid))
    }
}

fn copy_plan(table: &TargetTable, sql_name: &str, types: &[&ColumnType]) -> CopyPlan {
    let format = copy_format(types);
    let names: Vec<String> = table.columns.iter().map(|column| quote_identifier(&column.name)).collect();
    let list = column_list(&names);
    let values = insert_values(names.len());
    CopyPlan {
        kinds: types.iter().map(|of| of.kind).collect(),
        format,
        copy_sql: format!("COPY {sql_name} {list} FROM STDIN{}", format.options()),
        insert_sql: format!("INSERT INTO {sql_name} {list} OVERRIDING SYSTEM VALUE {values}"),
    }
}

/// A parenthesized list of column names. Empty without columns, because SQL does not allow an empty list.
fn column_list(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("({})", names.join(", "))
}

fn copy_format(types: &[&ColumnType]) -> CopyFormat {
    if types.iter().all(|of| has_binary_form(of)) { CopyFormat::Binary } else { CopyFormat::Text }
}

fn has_binary_form(of: &ColumnType) -> bool {
    of.wire_format(FormatPreference::Binary) == WireFormat::Binary
}

/// The VALUES clause, with a parameter for each column.
fn insert_values(count: usize) -> String {
    if count == 0 {
        return "DEFAULT VALUES".to_owned();
    }
    let parameters: Vec<String> = (1..=count).map(|number| format!("${number}")).collect();
    format!("VALUES ({})", parameters.join(", "))
}

/// The tables of the target by name.
fn existing_tables(session: &TargetSession) -> Result<HashMap<String, ExistingTable>, EngineError> {
    let sql = "SELECT nspname, relname, attname, atttypid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        LEFT JOIN pg_catalog.pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema')
        ORDER BY c.oid, attnum";
    let mut tables = HashMap::new();
    for attribute in session.rows("listing the tables of the target", sql, Attribute::read)? {
        attribute.add_to(&mut tables);
    }
    Ok(tables)
}

/// A column of a table in the target. A table without columns has one entry without a column name and type.
struct Attribute {
    schema: String,
    table: String,
    name: Option<String>,
    type_oid: Option<u32>,
}

impl Attribute {
    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self {
            schema: fields.text()?,
            table: fields.text()?,
            name: fields.optional()?,
            type_oid: fields.optional_parsed()?,
        })
    }

    fn add_to(self, tables: &mut HashMap<String, ExistingTable>) {
        let name = qualified(&self.schema, &self.table);
        let table = tables.entry(name).or_insert_with(|| ExistingTable::new(&self.schema, &self.table));
        if let (Some(name), Some(type_oid)) = (self.name, self.type_oid) {
            table.columns.insert(name, type_oid);
        }
    }
}

/// Statements that one session has prepared.
#[derive(Default)]
pub(super) struct PreparedStatements(HashMap<String, Statement>);

impl PreparedStatements {
    /// The prepared statement for this SQL.
    /// Fails if the server refuses to prepare it or the session is lost.
    pub(super) fn get(&mut self, client: &Client, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.0.get(sql) {
            return Ok(known.clone());
        }
        let statement = client.prepare(sql)?;
        self.0.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}
