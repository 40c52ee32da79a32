//! How the rows of each table go in: which columns there are and of which types, as the target has them.

use std::collections::HashMap;

use tokio_postgres::Statement;

use crate::engine::contract::{SourceError, TargetTable};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::fault::broken;
use crate::engine::postgres::restore::ledger::unanswered;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::schema::table::qualified;
use crate::engine::postgres::value::column_type::{FormatPreference, PgTypes, WireFormat};
use crate::engine::postgres::value::encode::{BINARY_HEADER, BINARY_TRAILER};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::engine::row_name::row_name;
use crate::format::cell::Cell;

/// The table that large objects are in a snapshot.
pub(super) const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject";

/// A table as its rows are loaded.
#[derive(Clone, Debug)]
pub(super) struct LoadPlan {
    pub(super) name: String,
    /// Position and name of the key's columns.
    key: Vec<(usize, String)>,
    pub(super) way: LoadMethod,
}

/// How rows are loaded.
#[derive(Clone, Debug)]
pub(super) enum LoadMethod {
    Copy(Copy),
    LargeObjects,
    /// Not at all, and why.
    Refused(String),
}

/// A table that rows are copied into.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) kinds: Vec<ValueKind>,
    pub(super) form: Form,
    /// `COPY … FROM STDIN`
    pub(super) copy_sql: String,
    /// The same for one row as parameters.
    pub(super) insert_sql: String,
}

/// The form of a COPY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Bytes as they are: every column has a type whose binary form is known.
    Binary,
    Text,
}

impl Form {
    /// Before the first row.
    pub(super) const fn header(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_HEADER,
            Self::Text => &[],
        }
    }

    /// After the last row.
    pub(super) const fn trailer(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_TRAILER,
            Self::Text => &[],
        }
    }
}

impl LoadPlan {
    /// The key of a row as a message shows it.
    pub(super) fn key_of(&self, cells: &[Cell<'_>]) -> String {
        row_name(self.key.iter().map(|(at, name)| (name.as_str(), cells.get(*at))))
    }
}

struct TargetAttribute {
    name: String,
    type_oid: u32,
}

/// Makes the plans of all tables.
pub(super) fn plan(
    client: &Client,
    server: &TargetServer,
    tables: &[TargetTable],
) -> Result<Vec<LoadPlan>, SourceError> {
    let types = PgTypes::load(client).map_err(|error| broken(error, &server.name))?;
    let attributes = attributes(client, server)?;
    let plans = tables.iter().map(|table| {
        let key = table.key.iter().map(|&at| (at, table.columns[at].name.clone())).collect();
        let way = if table.name == LARGE_OBJECTS {
            LoadMethod::LargeObjects
        } else {
            match attributes.get(&table.name) {
                None => LoadMethod::Refused("the table does not exist".to_owned()),
                Some((sql_name, attributes)) => copy(table, sql_name, attributes, &types),
            }
        };
        LoadPlan { name: table.name.clone(), key, way }
    });
    Ok(plans.collect())
}

/// By name of the table: its name for SQL, and its columns.
type Attributes = HashMap<String, (String, Vec<TargetAttribute>)>;

fn attributes(client: &Client, server: &TargetServer) -> Result<Attributes, SourceError> {
    let sql = "SELECT nspname, relname, attname, atttypid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        LEFT JOIN pg_catalog.pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema')
        ORDER BY c.oid, attnum";
    let found = rows(client, "listing the tables of the target", sql, |fields| {
        let (schema, table) = (fields.text()?, fields.text()?);
        Ok((schema, table, fields.optional()?, fields.optional_parsed()?))
    });
    let mut attributes = Attributes::new();
    for (schema, table, name, type_oid) in found.map_err(|error| unanswered(error, &server.name))? {
        let sql_name = format!("{}.{}", quote_identifier(&schema), quote_identifier(&table));
        let entry = attributes.entry(qualified(&schema, &table)).or_insert((sql_name, Vec::new()));
        if let (Some(name), Some(type_oid)) = (name, type_oid) {
            entry.1.push(TargetAttribute { name, type_oid });
        }
    }
    Ok(attributes)
}

fn copy(table: &TargetTable, sql_name: &str, attributes: &[TargetAttribute], types: &PgTypes) -> LoadMethod {
    let (mut kinds, mut names, mut form) = (Vec::new(), Vec::new(), Form::Binary);
    let mut marks = Vec::new();
    for column in &table.columns {
        let attribute = attributes.iter().find(|attribute| attribute.name == column.name);
        let Some(of) = attribute.and_then(|attribute| types.get(attribute.type_oid)) else {
            return LoadMethod::Refused(format!("the table has no column {}", column.name));
        };
        if of.wire_format(FormatPreference::Binary) != WireFormat::Binary {
            form = Form::Text;
        }
        kinds.push(of.kind);
        names.push(quote_identifier(&column.name));
        marks.push(format!("${}", marks.len() + 1));
    }
    // A list of no columns is no SQL.
    let list = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
    let binary = if form == Form::Binary { " (FORMAT binary)" } else { "" };
    let copy_sql = format!("COPY {sql_name} {list} FROM STDIN{binary}");
    let values = if names.is_empty() { "DEFAULT VALUES".to_owned() } else { format!("VALUES ({})", marks.join(", ")) };
    let insert_sql = format!("INSERT INTO {sql_name} {list} OVERRIDING SYSTEM VALUE {values}");
    LoadMethod::Copy(Copy { kinds, form, copy_sql, insert_sql })
}

/// Statements that one session has prepared.
#[derive(Default)]
pub(super) struct PreparedStatements(HashMap<String, Statement>);

impl PreparedStatements {
    pub(super) fn get(&mut self, client: &Client, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.0.get(sql) {
            return Ok(known.clone());
        }
        let statement = client.prepare(sql)?;
        self.0.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}
