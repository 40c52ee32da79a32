//! The tables of an image: columns as they are delivered, keys, foreign keys, and how to scan them.
//!
//! Generated columns are not delivered, because a restore computes them again. If no column of a table names its
//! rowid, the rowid is a hidden column, delivered last, because other tables and applications may refer to it.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, Row};

use crate::base::finding::{Finding, FindingKind};
use crate::base::shared_text::SharedTexts;
use crate::engine::contract::{Affinity, Column, EngineError, Fold, Table};
use crate::engine::sqlite::affinity::StrictTables;
use crate::engine::sqlite::column_defaults::ColumnDefaults;
use crate::engine::sqlite::feed;
use crate::engine::sqlite::foreign_keys::{TablesByName, foreign_keys};
use crate::engine::sqlite::scan::{Scan, TableStorage};
use crate::engine::sqlite::schema::{Object, SqliteSchema, SqliteText, virtual_module};
use crate::engine::sqlite::sql::{
    SqlContext, TextEncoding, lossy_text, number, query_all, quoted, reason, strings, valid_text,
};
use crate::format::cell::{Cell, OwnedCell};

/// Position of the rowid among the columns of a definition that does not name it.
const HIDDEN_POSITION: u32 = u32::MAX;
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Tables and their scans, at the same positions, and the gaps.
#[derive(Default)]
pub(super) struct SqliteTables {
    pub(super) tables: Vec<Table>,
    pub(super) scans: Vec<Scan>,
    pub(super) gaps: Vec<Finding>,
    names: SharedTexts,
}

impl SqliteTables {
    /// Describes every table of the document.
    /// Fails if SQLite cannot list tables, foreign keys or modules. A table that cannot be read is a gap.
    pub(super) fn read(conn: &Connection, document: &SqliteSchema) -> Result<Self, EngineError> {
        let mut found = Self::default();
        found.read_tables(conn, document)?;
        found.read_foreign_keys(conn)?;
        found.mark_feeds(conn, document)?;
        found.check_modules(conn, document)?;
        Ok(found)
    }

    fn read_tables(&mut self, conn: &Connection, document: &SqliteSchema) -> Result<(), EngineError> {
        let reader = TableReader::new(conn)?;
        for object in document.objects.iter().filter(|object| object.is_stored_table()) {
            self.read_table(&reader, object, document.encoding);
        }
        Ok(())
    }

    fn gap(&mut self, kind: FindingKind, object: &str, reason: impl ToString) {
        self.gaps.push(Finding::new(kind, object, reason));
    }

    fn read_table(&mut self, reader: &TableReader<'_>, object: &Object, encoding: TextEncoding) {
        let Some(name) = object.name.text() else {
            let lossy = object.name.lossy();
            return self.gap(
                FindingKind::UnreadableName,
                &lossy,
                "its name is not valid text: its rows are not in the snapshot",
            );
        };
        let Some(rowids) = reader.listed.get(name) else {
            let detail = "SQLite cannot read its definition: its rows are not in the snapshot";
            return self.gap(FindingKind::UnreadableDefinition, name, detail);
        };
        match reader.read(name, *rowids) {
            Ok(found) => self.add(reader, encoding, *rowids, found),
            Err(error) => self.unreadable(name, &error),
        }
    }

    fn add(&mut self, reader: &TableReader<'_>, encoding: TextEncoding, rowids: Rowids, mut found: TableWithGap) {
        found.table.share_names(&mut self.names);
        let storage = TableStorage { has_rowids: rowids == Rowids::Numbered, strict: &reader.strict };
        match checked_scan(reader.conn, encoding, storage, &found.table) {
            Ok(scan) => {
                self.scans.push(scan);
                self.tables.push(found.table);
            }
            Err(error) => self.unreadable(&found.table.name, &error),
        }
        self.gaps.extend(found.gap);
    }

    fn unreadable(&mut self, table: &str, error: &rusqlite::Error) {
        let detail = format!("its rows are not in the snapshot: {}", reason(error));
        self.gap(FindingKind::UnreadableDefinition, table, detail);
    }

    /// Foreign keys whose columns and parent are both in the snapshot, in the order of their definition.
    fn read_foreign_keys(&mut self, conn: &Connection) -> Result<(), EngineError> {
        let by_name = TablesByName::new(&self.tables);
        let mut all = Vec::new();
        for table in &self.tables {
            let keys = foreign_keys(conn, &by_name, table);
            all.push(keys.doing(format!("read the foreign keys of {}", table.name))?);
        }
        for (table, keys) in self.tables.iter_mut().zip(all) {
            table.foreign_keys = keys;
        }
        Ok(())
    }

    /// Adds hints for tables that grow at the end and that nothing refers to.
    fn mark_feeds(&mut self, conn: &Connection, document: &SqliteSchema) -> Result<(), EngineError> {
        let parents = self.parents();
        let definitions = definitions(document);
        for table in self.tables.iter_mut().filter(|table| !parents.contains(&table.name)) {
            table.feed_hint = feed_hint(conn, &definitions, table)?;
        }
        Ok(())
    }

    /// Names of the tables that others refer to.
    fn parents(&self) -> HashSet<String> {
        let keys = self.tables.iter().flat_map(|table| &table.foreign_keys);
        keys.map(|key| key.parent.clone()).collect()
    }

    /// Reports virtual tables whose rows are not in the file, or not in a known place.
    fn check_modules(&mut self, conn: &Connection, document: &SqliteSchema) -> Result<(), EngineError> {
        let known = strings(conn, "SELECT lower(name) FROM pragma_module_list", []).doing("list the modules")?;
        let names: BTreeSet<String> = self.tables.iter().map(|table| table.name.to_lowercase()).collect();
        for object in document.objects.iter().filter(|object| object.is("table")) {
            if let Some(module) = unknown_module_of(object, &known, &names) {
                let detail = unknown_module(&module);
                self.gap(FindingKind::UnknownModule { module }, &object.name.lossy(), detail);
            }
        }
        Ok(())
    }
}

/// The module of a virtual table, unless it is known or keeps its rows in tables of the file. `tables` are in lower
/// case.
fn unknown_module_of(object: &Object, known: &[String], tables: &BTreeSet<String>) -> Option<String> {
    let module = module_of(object)?;
    let is_known = known.contains(&module.to_lowercase()) || has_shadow_tables(&object.name.lossy(), tables);
    (!is_known).then_some(module)
}

/// Whether there are tables named after a virtual table.
fn has_shadow_tables(name: &str, tables: &BTreeSet<String>) -> bool {
    let prefix = format!("{name}_").to_lowercase();
    tables.range(prefix.clone()..).next().is_some_and(|table| table.starts_with(&prefix))
}

fn feed_hint(conn: &Connection, definitions: &Definitions<'_>, table: &Table) -> Result<Option<String>, EngineError> {
    let name = &table.name;
    if !has_named_rowid(conn, name).doing(format!("read the key of {name}"))? {
        return Ok(None);
    }
    let definition = definitions.get(name.as_str());
    let sources = definition.map(|sql| feed::RowidSource::of_definition(&sql.lossy()));
    Ok(sources.and_then(|source| feed::hint(name, &table.columns, source)))
}

/// The module of a virtual table.
fn module_of(object: &Object) -> Option<String> {
    virtual_module(&object.sql.as_ref()?.lossy())
}

fn unknown_module(module: &str) -> String {
    format!(
        "module {module} is unknown here and has no tables named after this one: the definition is in the snapshot, rows that the module keeps elsewhere are not"
    )
}

fn checked_scan(
    conn: &Connection,
    encoding: TextEncoding,
    storage: TableStorage<'_>,
    table: &Table,
) -> rusqlite::Result<Scan> {
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let scan = Scan::new(conn, encoding, storage, &table.name, &columns)?;
    scan.check(conn)?;
    Ok(scan)
}

/// The statements that created objects, by name.
type Definitions<'d> = HashMap<&'d str, &'d SqliteText>;

fn definitions(document: &SqliteSchema) -> Definitions<'_> {
    // Reversed: the first of equal names counts.
    let objects = document.objects.iter().rev();
    objects.filter_map(|object| Some((object.name.text()?, object.sql.as_ref()?))).collect()
}

/// Whether a table's rows have rowids.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rowids {
    Numbered,
    None,
}

/// Reads tables one by one. Keeps what is read once for all of them.
struct TableReader<'c> {
    conn: &'c Connection,
    /// Every table whose definition SQLite could parse and whose name is valid text.
    listed: HashMap<String, Rowids>,
    strict: StrictTables,
    defaults: ColumnDefaults,
    row_counts: HashMap<String, u64>,
    oids: HashMap<String, u64>,
}

/// A table and its gap, if any.
struct TableWithGap {
    table: Table,
    gap: Option<Finding>,
}

impl TableWithGap {
    /// Adds the rowid as a hidden column. It becomes the key of a table without one.
    fn add_rowid(&mut self, infos: &[ColumnInfo]) {
        let Some(name) = free_rowid_name(infos) else {
            self.gap = Some(hidden_numbers_gap(&self.table.name));
            return;
        };
        if self.table.key.is_empty() {
            self.table.key.push(self.table.columns.len());
        }
        self.table.columns.push(hidden_rowid(name));
    }
}

impl<'c> TableReader<'c> {
    fn new(conn: &'c Connection) -> Result<Self, EngineError> {
        Ok(Self {
            conn,
            listed: list_tables(conn).doing("list the tables")?,
            strict: StrictTables::read(conn).doing("list the tables")?,
            defaults: ColumnDefaults::new().doing("open a scratch database")?,
            row_counts: row_counts(conn),
            oids: oids(conn).doing("read the schema")?,
        })
    }

    fn read(&self, name: &str, rowids: Rowids) -> rusqlite::Result<TableWithGap> {
        let infos = column_infos(self.conn, name)?;
        let columns = self.columns(name, &infos)?;
        let key = key_positions(&infos);
        let mut found = TableWithGap { table: self.table(name, columns, key), gap: None };
        if rowids == Rowids::Numbered && !is_rowid_named(self.conn, name, &infos)? {
            found.add_rowid(&infos);
        }
        found.table.rows_estimate = self.rows_estimate(&found.table);
        Ok(found)
    }

    /// The count of ANALYZE, or else an estimate from the rowids.
    fn rows_estimate(&self, table: &Table) -> Option<u64> {
        let counted = self.row_counts.get(&table.name).copied();
        counted.or_else(|| rows_at_most(self.conn, table))
    }

    fn table(&self, name: &str, columns: Vec<Column>, key: Vec<usize>) -> Table {
        Table {
            name: name.to_owned(),
            oid: self.oids.get(name).copied(),
            columns,
            key,
            foreign_keys: Vec::new(),
            rows_estimate: None,
            feed_hint: None,
        }
    }

    fn columns(&self, table: &str, infos: &[ColumnInfo]) -> rusqlite::Result<Vec<Column>> {
        let mut columns = Vec::with_capacity(infos.len());
        for info in infos.iter().filter(|info| !info.is_generated) {
            columns.push(self.column(table, info)?);
        }
        Ok(columns)
    }

    fn column(&self, table: &str, info: &ColumnInfo) -> rusqlite::Result<Column> {
        Ok(Column {
            name: info.name.as_str().into(),
            position: info.position,
            missing: self.defaults.value(&info.declared, info.default.as_deref()),
            hidden: false,
            fold: self.fold(table, &info.name)?,
            affinity: self.strict.affinity(table, &info.declared).of_references(),
        })
    }

    fn fold(&self, table: &str, column: &str) -> rusqlite::Result<Fold> {
        let (_, collation, ..) = self.conn.column_metadata(Some("main"), table, column)?;
        Ok(fold_of(collation.map(|name| name.to_string_lossy()).as_deref()))
    }
}

fn list_tables(conn: &Connection) -> rusqlite::Result<HashMap<String, Rowids>> {
    let sql = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main'";
    let listed: Vec<Option<(String, Rowids)>> = query_all(conn, sql, [], |row| {
        let rowids = if row.get(1)? { Rowids::None } else { Rowids::Numbered };
        Ok(valid_text(row.get_ref(0)?).map(|name| (name, rowids)))
    })?;
    Ok(listed.into_iter().flatten().collect())
}

/// The rowid of each table's schema row and the table's first page, as one number. Renaming a table keeps both.
fn oids(conn: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let sql = "SELECT name, rowid, rootpage FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0";
    let oids: Vec<Option<(String, u64)>> = query_all(conn, sql, [], read_oid)?;
    Ok(oids.into_iter().flatten().collect())
}

fn read_oid(row: &Row<'_>) -> rusqlite::Result<Option<(String, u64)>> {
    let name = lossy_text(row.get_ref(0)?);
    let oid = oid_of(row.get(1)?, row.get(2)?);
    Ok(name.zip(oid))
}

fn oid_of(rowid: i64, root_page: u32) -> Option<u64> {
    let rowid = u32::try_from(rowid).ok()?;
    Some(u64::from(rowid) << 32 | u64::from(root_page))
}

/// A row of `pragma_table_xinfo`.
struct ColumnInfo {
    position: u32,
    name: String,
    declared: String,
    default: Option<String>,
    /// From 1. 0 means that the column is not in the primary key.
    key_position: u32,
    is_generated: bool,
}

impl ColumnInfo {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            position: row.get(0)?,
            name: row.get(1)?,
            declared: lossy_text(row.get_ref(2)?).unwrap_or_default(),
            default: lossy_text(row.get_ref(3)?),
            key_position: row.get(4)?,
            is_generated: row.get::<_, i64>(5)? != 0,
        })
    }
}

fn column_infos(conn: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let sql = "SELECT cid, name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main')";
    query_all(conn, sql, [table], ColumnInfo::read)
}

/// Positions of the primary key's columns among the delivered columns.
fn key_positions(infos: &[ColumnInfo]) -> Vec<usize> {
    let stored = infos.iter().filter(|info| !info.is_generated);
    let mut key: Vec<(u32, usize)> = stored.map(|info| info.key_position).zip(0..).collect();
    key.retain(|(position, _)| *position > 0);
    key.sort_unstable();
    // A new list: this one has room for all columns, in each of many tables.
    key.iter().map(|(_, column)| *column).collect()
}

/// A name for the rowid that no column uses.
fn free_rowid_name(infos: &[ColumnInfo]) -> Option<&'static str> {
    let is_taken = |alias: &str| infos.iter().any(|info| info.name.eq_ignore_ascii_case(alias));
    ROWID_NAMES.into_iter().find(|alias| !is_taken(alias))
}

fn hidden_rowid(alias: &str) -> Column {
    Column {
        name: alias.into(),
        position: HIDDEN_POSITION,
        missing: OwnedCell::new(&Cell::Null),
        hidden: true,
        fold: Fold::Exact,
        affinity: Affinity::Numeric,
    }
}

fn hidden_numbers_gap(table: &str) -> Finding {
    let reason = "columns named rowid, _rowid_ and oid hide the rowids: rows are complete, but their rowids are not in the snapshot";
    Finding::new(FindingKind::RowidsNotKept, table, reason)
}

fn has_named_rowid(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    is_rowid_named(conn, table, &column_infos(conn, table)?)
}

/// Whether a column of the definition is the rowid: the only column of the key, declared exactly `INTEGER`, and not
/// backed by an index (as `INTEGER PRIMARY KEY DESC` is).
fn is_rowid_named(conn: &Connection, table: &str, infos: &[ColumnInfo]) -> rusqlite::Result<bool> {
    match only_key_column(infos) {
        Some(only) if only.declared.eq_ignore_ascii_case("INTEGER") => Ok(!has_key_index(conn, table)?),
        _ => Ok(false),
    }
}

/// The column of a primary key with exactly one column.
fn only_key_column(infos: &[ColumnInfo]) -> Option<&ColumnInfo> {
    let mut key = infos.iter().filter(|info| info.key_position > 0);
    let first = key.next()?;
    key.next().is_none().then_some(first)
}

fn has_key_index(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'";
    Ok(number(conn, sql, [table])? > 0)
}

fn fold_of(collation: Option<&str>) -> Fold {
    match collation {
        Some(name) if name.eq_ignore_ascii_case("NOCASE") => Fold::AsciiCase,
        Some(name) if name.eq_ignore_ascii_case("RTRIM") => Fold::TrailingSpace,
        _ => Fold::Exact,
    }
}

/// Row counts from ANALYZE. They are only a hint, and may be missing or wrong.
fn row_counts(conn: &Connection) -> HashMap<String, u64> {
    read_statistics(conn).unwrap_or_default()
}

fn read_statistics(conn: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let sql = "SELECT tbl, CAST(stat AS INTEGER) FROM main.sqlite_stat1";
    query_all(conn, sql, [], |row| {
        let name = lossy_text(row.get_ref(0)?).unwrap_or_default();
        Ok((name, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
    })
}

/// The highest rowid, found without a scan.
fn rows_at_most(conn: &Connection, table: &Table) -> Option<u64> {
    let sql = format!("SELECT max({}) FROM main.{}", rowid_name(table), quoted(&table.name));
    let highest: Option<i64> = conn.query_row(&sql, [], |row| row.get(0)).ok()?;
    u64::try_from(highest.unwrap_or(0)).ok()
}

fn rowid_name(table: &Table) -> &str {
    let hidden = table.columns.iter().rfind(|column| column.hidden);
    hidden.map_or("rowid", |column| column.name.as_str())
}
