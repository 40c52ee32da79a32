//! What the tables of an image look like: columns as they are delivered, keys, foreign keys, and how
//! to scan them.
//!
//! Generated columns are not delivered: they are computed again. The rowid of a table that has no name
//! of its own for it is a hidden column, delivered last, because other tables and applications refer to it.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::engine::contract::{Column, Fold, ForeignKey, Gap, SourceError, Strength, Table};
use crate::engine::sqlite::affinity::Affinity;
use crate::engine::sqlite::feed;
use crate::engine::sqlite::scan::{Scan, cell_of};
use crate::engine::sqlite::schema::{SqliteSchema, virtual_module};
use crate::engine::sqlite::sql::{TextEncoding, failed_sql, quoted, reason};
use crate::format::cell::{Cell, OwnedCell};

/// Position of the rowid among the columns of a definition that does not name it.
const HIDDEN_POSITION: u32 = u32::MAX;
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// Tables and how to read them, at the same positions, and what cannot be read.
#[derive(Default)]
pub(super) struct SqliteTables {
    pub(super) tables: Vec<Table>,
    pub(super) scans: Vec<Scan>,
    pub(super) gaps: Vec<Gap>,
}

impl SqliteTables {
    /// Looks at every table of the document.
    pub(super) fn read(conn: &Connection, document: &SqliteSchema) -> Result<Self, SourceError> {
        let mut found = Self::default();
        let listed = listed(conn).map_err(|error| failed_sql("list the tables", &error))?;
        let defaults = Defaults::new().map_err(|error| failed_sql("open a scratch database", &error))?;
        let estimates = estimates(conn);
        let places = places(conn).map_err(|error| failed_sql("read the schema", &error))?;
        for object in document.objects.iter().filter(|object| object.is_stored_table()) {
            let Some(name) = object.name.text() else {
                found.gap(&object.name.lossy(), "its name is not valid text: its rows are not in the snapshot");
                continue;
            };
            let Some(rowids) = listed.get(name) else {
                found.gap(name, "SQLite cannot read its definition: its rows are not in the snapshot");
                continue;
            };
            match read_table(conn, name, *rowids, &defaults) {
                Ok((mut table, gap)) => {
                    table.oid = places.get(name).copied();
                    table.rows_estimate = estimates.get(name).copied().or_else(|| rows_at_most(conn, &table));
                    found.add(conn, document.encoding, table);
                    found.gaps.extend(gap);
                }
                Err(error) => found.gap(name, format!("its rows are not in the snapshot: {}", reason(&error))),
            }
        }
        found.read_foreign_keys(conn)?;
        found.mark_feeds(conn, document)?;
        found.check_modules(conn, document)?;
        Ok(found)
    }

    fn gap(&mut self, object: &str, reason: impl Into<String>) {
        self.gaps.push(Gap { object: object.to_owned(), reason: reason.into() });
    }

    fn add(&mut self, conn: &Connection, encoding: TextEncoding, table: Table) {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let scan = Scan::new(conn, encoding, &table.name, &columns);
        match scan.and_then(|scan| scan.check(conn).map(|()| scan)) {
            Ok(scan) => {
                self.scans.push(scan);
                self.tables.push(table);
            }
            Err(error) => self.gap(&table.name, format!("its rows are not in the snapshot: {}", reason(&error))),
        }
    }

    /// Foreign keys whose columns and parent are both in the snapshot, in the order of their definition.
    fn read_foreign_keys(&mut self, conn: &Connection) -> Result<(), SourceError> {
        let mut all = Vec::new();
        for table in &self.tables {
            let found = foreign_keys(conn, &self.tables, table)
                .map_err(|error| failed_sql(format!("read the foreign keys of {}", table.name), &error))?;
            all.push(found);
        }
        for (table, keys) in self.tables.iter_mut().zip(all) {
            table.foreign_keys = keys;
        }
        Ok(())
    }

    /// Tables that grow at their end and that nothing refers to.
    fn mark_feeds(&mut self, conn: &Connection, document: &SqliteSchema) -> Result<(), SourceError> {
        let referred: HashSet<String> =
            self.tables.iter().flat_map(|table| &table.foreign_keys).map(|key| key.parent.clone()).collect();
        for table in self.tables.iter_mut().filter(|table| !referred.contains(&table.name)) {
            let infos = infos(conn, &table.name);
            let ids = infos.and_then(|infos| is_rowid_named(conn, &table.name, &infos));
            let ids = ids.map_err(|error| failed_sql(format!("read the key of {}", table.name), &error))?;
            let definition = document.objects.iter().find(|object| object.name.text() == Some(&table.name));
            let sql = definition.and_then(|object| object.sql.as_ref()).map(|sql| sql.lossy());
            if let (true, Some(sql)) = (ids, sql) {
                table.feed_hint = feed::hint(&table.name, &table.columns, feed::RowidSource::of_definition(&sql));
            }
        }
        Ok(())
    }

    /// Names virtual tables whose rows are nowhere in the file, or nowhere that is known.
    fn check_modules(&mut self, conn: &Connection, document: &SqliteSchema) -> Result<(), SourceError> {
        let known = strings(conn, "SELECT lower(name) FROM pragma_module_list")
            .map_err(|error| failed_sql("list the modules", &error))?;
        for object in &document.objects {
            let Some(module) = object.sql.as_ref().and_then(|sql| virtual_module(&sql.lossy())) else { continue };
            let shadow = format!("{}_", object.name.lossy()).to_lowercase();
            let has_shadows = self.tables.iter().any(|table| table.name.to_lowercase().starts_with(&shadow));
            if object.is("table") && !known.contains(&module.to_lowercase()) && !has_shadows {
                let reason = format!(
                    "module {module} is not known here and keeps nothing in tables named after it: the definition is in the snapshot, rows that it keeps elsewhere are not"
                );
                self.gap(&object.name.lossy(), reason);
            }
        }
        Ok(())
    }
}

/// Whether a table's rows are numbered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rowids {
    Numbered,
    None,
}

/// Every table that SQLite could make sense of.
fn listed(conn: &Connection) -> rusqlite::Result<HashMap<String, Rowids>> {
    let mut statement = conn.prepare("SELECT name, wr FROM pragma_table_list WHERE schema = 'main'")?;
    let rows = statement.query_map([], |row| {
        let rowids = if row.get::<_, bool>(1)? { Rowids::None } else { Rowids::Numbered };
        Ok((row.get(0)?, rowids))
    })?;
    rows.collect()
}

/// Where the definition and the first page of each table are. A renamed table keeps both.
fn places(conn: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let sql = "SELECT name, rowid, rootpage FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0";
    let mut statement = conn.prepare(sql)?;
    let mut places = HashMap::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, place, root) = (lossy(row.get_ref(0)?), row.get::<_, i64>(1)?, row.get::<_, u32>(2)?);
        let place = u64::try_from(place).ok().filter(|place| *place < 1 << 32);
        places.extend(name.zip(place).map(|(name, place)| (name, place << 32 | u64::from(root))));
    }
    Ok(places)
}

fn strings(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// A line of `table_xinfo`.
struct Info {
    position: u32,
    name: String,
    declared: String,
    default: Option<String>,
    /// From 1; 0: not in the primary key.
    key_place: u32,
    generated: bool,
}

fn infos(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Info>> {
    let mut statement =
        conn.prepare("SELECT cid, name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let rows = statement.query_map([table], |row| {
        Ok(Info {
            position: row.get(0)?,
            name: row.get(1)?,
            declared: lossy(row.get_ref(2)?).unwrap_or_default(),
            default: lossy(row.get_ref(3)?),
            key_place: row.get(4)?,
            generated: row.get::<_, i64>(5)? != 0,
        })
    })?;
    rows.collect()
}

/// Words of a definition that nothing depends on.
fn lossy(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

fn read_table(
    conn: &Connection,
    name: &str,
    rowids: Rowids,
    defaults: &Defaults,
) -> rusqlite::Result<(Table, Option<Gap>)> {
    let infos = infos(conn, name)?;
    let mut columns = Vec::with_capacity(infos.len() + 1);
    let mut key: Vec<(u32, usize)> = Vec::new();
    for info in infos.iter().filter(|info| !info.generated) {
        if info.key_place > 0 {
            key.push((info.key_place, columns.len()));
        }
        let (_, collation, ..) = conn.column_metadata(Some("main"), name, info.name.as_str())?;
        columns.push(Column {
            name: info.name.clone(),
            position: info.position,
            missing: defaults.value(info),
            hidden: false,
            fold: fold(collation.map(|name| name.to_string_lossy()).as_deref()),
        });
    }
    key.sort_unstable();
    let mut key: Vec<usize> = key.into_iter().map(|(_, column)| column).collect();
    let mut gap = None;
    if rowids == Rowids::Numbered && !is_rowid_named(conn, name, &infos)? {
        let taken = |alias: &&str| infos.iter().any(|info| info.name.eq_ignore_ascii_case(alias));
        if let Some(alias) = ROWID_NAMES.into_iter().find(|alias| !taken(alias)) {
            if key.is_empty() {
                key.push(columns.len());
            }
            columns.push(hidden_rowid(alias));
        } else {
            let reason = "columns named rowid, _rowid_ and oid hide the row numbers: rows are complete, their numbers are not in the snapshot";
            gap = Some(Gap { object: name.to_owned(), reason: reason.to_owned() });
        }
    }
    let table = Table {
        name: name.to_owned(),
        oid: None,
        columns,
        key,
        foreign_keys: Vec::new(),
        rows_estimate: None,
        feed_hint: None,
    };
    Ok((table, gap))
}

fn hidden_rowid(alias: &str) -> Column {
    Column {
        name: alias.to_owned(),
        position: HIDDEN_POSITION,
        missing: OwnedCell::new(&Cell::Null),
        hidden: true,
        fold: Fold::Exact,
    }
}

/// Whether a column of the definition is the rowid: the only one of the key, exactly `INTEGER`, and
/// not backed by an index (as `INTEGER PRIMARY KEY DESC` is).
fn is_rowid_named(conn: &Connection, table: &str, infos: &[Info]) -> rusqlite::Result<bool> {
    let mut key = infos.iter().filter(|info| info.key_place > 0);
    let (Some(only), None) = (key.next(), key.next()) else { return Ok(false) };
    if !only.declared.eq_ignore_ascii_case("INTEGER") {
        return Ok(false);
    }
    let sql = "SELECT count(*) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk'";
    conn.query_row(sql, [table], |row| row.get::<_, i64>(0)).map(|indexes| indexes == 0)
}

fn fold(collation: Option<&str>) -> Fold {
    match collation {
        Some(name) if name.eq_ignore_ascii_case("NOCASE") => Fold::AsciiCase,
        Some(name) if name.eq_ignore_ascii_case("RTRIM") => Fold::TrailingSpace,
        _ => Fold::Exact,
    }
}

/// Evaluates column defaults: a scratch database in which each is added to a table with a row.
struct Defaults(Connection);

impl Defaults {
    fn new() -> rusqlite::Result<Self> {
        Connection::open_in_memory().map(Self)
    }

    /// What rows older than the column hold in it; null unless the default is a constant.
    fn value(&self, info: &Info) -> OwnedCell {
        let null = OwnedCell::new(&Cell::Null);
        let Some(default) = &info.default else { return null };
        let affinity = Affinity::of_declared(&info.declared).name();
        [format!("DEFAULT {default}"), format!("DEFAULT ({default})")]
            .iter()
            .find_map(|clause| self.evaluate(affinity, clause).ok())
            .unwrap_or(null)
    }

    fn evaluate(&self, affinity: &str, clause: &str) -> rusqlite::Result<OwnedCell> {
        self.0.execute_batch("DROP TABLE IF EXISTS t; CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
        // Not as a batch: whatever the clause says, it stays one statement.
        self.0.execute(&format!("ALTER TABLE t ADD COLUMN c {affinity} {clause}"), [])?;
        self.0.query_row("SELECT c FROM t", [], |row| row.get_ref(0).map(|value| OwnedCell::new(&cell_of(value))))
    }
}

fn foreign_keys(conn: &Connection, tables: &[Table], table: &Table) -> rusqlite::Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?1, 'main') ORDER BY id DESC, seq";
    let mut statement = conn.prepare(sql)?;
    let lines = statement.query_map([&table.name], |row| {
        Ok(KeyLine { id: row.get(0)?, parent: row.get(1)?, from: row.get(2)?, to: row.get(3)?, on_delete: row.get(4)? })
    })?;
    let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for group in lines.chunk_by(|a, b| a.id == b.id) {
        let parent = tables.iter().find(|parent| parent.name.eq_ignore_ascii_case(&group[0].parent));
        found.extend(parent.and_then(|parent| foreign_key(table, parent, group)));
    }
    Ok(found)
}

/// One column of one foreign key, as the pragma lists it.
struct KeyLine {
    id: i64,
    parent: String,
    from: String,
    to: Option<String>,
    on_delete: String,
}

fn foreign_key(table: &Table, parent: &Table, lines: &[KeyLine]) -> Option<ForeignKey> {
    let position = |table: &Table, name: &str| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    let columns = lines.iter().map(|line| position(table, &line.from)).collect::<Option<Vec<_>>>()?;
    let parent_positions = match lines.iter().map(|line| line.to.as_deref()).collect::<Option<Vec<_>>>() {
        Some(names) => names.iter().map(|name| position(parent, name)).collect::<Option<Vec<_>>>()?,
        None => parent.key.clone(),
    };
    (columns.len() == parent_positions.len()).then(|| ForeignKey {
        columns,
        parent: parent.name.clone(),
        parent_columns: parent_positions.iter().map(|at| parent.columns[*at].name.clone()).collect(),
        strength: match lines[0].on_delete.as_str() {
            "SET NULL" | "SET DEFAULT" => Strength::Weak,
            _ => Strength::Owning,
        },
        by_server: Vec::new(),
    })
}

/// Row counts that ANALYZE left behind, if it ever ran.
fn estimates(conn: &Connection) -> HashMap<String, u64> {
    let read = || -> rusqlite::Result<HashMap<String, u64>> {
        let mut statement = conn.prepare("SELECT tbl, CAST(stat AS INTEGER) FROM main.sqlite_stat1")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        rows.map(|row| row.map(|(table, rows)| (table, u64::try_from(rows).unwrap_or(0)))).collect()
    };
    // Statistics are only a hint, and may be absent or nonsense.
    read().unwrap_or_default()
}

/// The highest rowid, found without a scan.
fn rows_at_most(conn: &Connection, table: &Table) -> Option<u64> {
    let alias = table.columns.iter().rfind(|column| column.hidden).map_or("rowid", |column| column.name.as_str());
    let sql = format!("SELECT max({alias}) FROM main.{}", quoted(&table.name));
    let highest: Option<i64> = conn.query_row(&sql, [], |row| row.get(0)).ok()?;
    u64::try_from(highest.unwrap_or(0)).ok()
}
