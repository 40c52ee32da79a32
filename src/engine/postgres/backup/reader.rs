//! Reads the tables of an open image, each session its slices, as canonical cells.
//!
//! A server sends a row in one message of at most a gigabyte. A row that is longer is read column by column; it is found
//! by how many came before it, where rows come as they lie. A parent that cannot be asked (its index is damaged, say) costs
//! companions, never rows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::chain::chain;
use crate::engine::contract::{Column, Gap, Reader, RowSink, SinkError, SourceError};
use crate::engine::postgres::backup::companion::{Companion, Followed, Keys};
use crate::engine::postgres::backup::image::{LockClaim, PgImage};
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::pace::Pace;
use crate::engine::postgres::backup::slice::{RowOrder, Slice};
use crate::engine::postgres::backup::user_types::{Aspect, UserTypes};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::session::SessionEncoding;
use crate::engine::postgres::schema::table::{Parent, PgColumn, PgTable};
use crate::engine::postgres::value::column_type::{ColumnType, FormatPreference, PgTypes};
use crate::engine::postgres::value::copy_decoder::{Companions, RowReader, RowsError};
use crate::format::cell::{Cell, OwnedCell};

/// What a server says of a row, or of a value, that is too long to be sent.
const TOO_LONG: &str = "54000";
const UNDO: &str = "ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading";

/// An image that is open, with all of its tables.
pub(crate) struct ReadableImage {
    pub(crate) image: PgImage,
    pub(crate) watch: LockWatchdog,
    pub(crate) types: UserTypes,
    pub(crate) tables: Vec<Readable>,
    pub(crate) encoding: SessionEncoding,
    /// Whose turn it is in the leader's session, which other readers use at times.
    pub(crate) leader_turn: Mutex<()>,
}

impl ReadableImage {
    /// What an error in reading comes from.
    fn explain(&self, error: SourceError) -> SourceError {
        // What the watch did to us shows as a lost connection.
        if let Some(verdict) = self.watch.verdict() {
            return verdict.into();
        }
        if !matches!(error, SourceError::Failed { .. } | SourceError::Server { .. }) {
            return error;
        }
        // Some types are asked for by the names that they had.
        match self.types.altered(&self.image, &self.watch, Aspect::Definition).ok().and_then(|mut names| names.pop()) {
            Some(name) => {
                let reason = format!("type {name} was altered meanwhile ({error})");
                SourceError::GaveWay { what: self.image.address().to_string(), reason }
            }
            None => error,
        }
    }
}

/// A table, ready to be read.
pub(crate) struct Readable {
    name: String,
    /// Names and types, in the order of delivery.
    columns: Vec<(String, ColumnType)>,
    /// A column whose type is not known: an error only if somebody wants the rows.
    unknown: Option<String>,
    condition: Option<String>,
    pub(crate) slices: Vec<Slice>,
    /// By their place among the table's foreign keys: those that can be followed.
    keys: Keys,
    /// Those that are.
    followed: Vec<usize>,
    /// Why their parents are not asked, if they are not.
    unasked: Option<String>,
    /// Set once somebody has told that parents could not be asked.
    told: OnceLock<()>,
}

/// Whether parents are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parents {
    Asked,
    /// Each companion is the row's own.
    LeftAlone,
}

/// The most that one SELECT can give.
const SELECTED_MAX: usize = 1664;

impl Readable {
    pub(crate) fn of(table: &PgTable, types: &PgTypes, slices: Vec<Slice>, keys: Keys) -> Self {
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
            keys,
            followed: Vec::new(),
            unasked: None,
            told: OnceLock::new(),
        }
    }

    /// From now on its rows have companions for this foreign key.
    pub(crate) fn follow(&mut self, key: usize) {
        if self.keys.contains_key(&key) {
            self.followed.push(key);
        }
    }

    /// Locks what companions need and nobody holds yet.
    pub(crate) fn reach_parents(&mut self, image: &PgImage) -> Result<(), PostgresError> {
        let partitioned = self.followed_keys().map(|key| key.parent.clone());
        for parent in partitioned.filter(|parent| matches!(parent, Parent::Partitioned(_))).collect::<Vec<_>>() {
            if image.claim(image.leader(), parent.sql())? == LockClaim::SomebodyWaits {
                self.unasked = Some(format!("somebody keeps {} locked", parent.sql()));
            }
        }
        if self.columns.len() + self.companions().count() > SELECTED_MAX {
            self.unasked = Some("the table has too many columns".to_owned());
        }
        Ok(())
    }

    fn followed_keys(&self) -> impl Iterator<Item = &Followed> {
        self.followed.iter().filter_map(|key| self.keys.get(key))
    }

    fn companions(&self) -> impl Iterator<Item = Companion<'_>> {
        self.followed_keys().flat_map(Followed::companions)
    }

    /// What is to be locked while a slice is read.
    fn locks(&self, slice: &Slice) -> Vec<String> {
        let parents = self.followed_keys().map(|key| key.parent.sql().to_owned());
        std::iter::once(format!("ONLY {}", slice.sql_name)).chain(parents.filter(|_| self.unasked.is_none())).collect()
    }

    /// Everything that is selected: names, types and expressions.
    fn selected(&self, slice: &Slice, parents: Parents, mode: FormatPreference) -> Vec<((String, ColumnType), String)> {
        let own = self.columns.iter().map(|column| (column.clone(), column.1.select(&column.0, mode)));
        let companions = self.companions().filter(|_| parents == Parents::Asked);
        own.chain(companions.map(|one| (one.column(), one.select(&slice.sql_name, mode)))).collect()
    }

    fn completion(&self) -> Companions {
        Companions { after: self.columns.len(), of: self.companions().map(|one| one.of()).collect() }
    }

    /// For the first who asks.
    fn unasked_gap(&self, reason: &str) -> Option<Gap> {
        self.told.set(()).ok()?;
        let reason = format!(
            "the parents of its rows could not be asked how they write their keys ({reason}): rows that write them \
             otherwise are captured, but not found by their user"
        );
        Some(Gap { object: self.name.clone(), reason })
    }

    /// What to select of rows that meet all of these conditions, and those of table and slice.
    fn select(&self, slice: &Slice, what: &str, more: Option<&str>) -> String {
        let conditions: Vec<&str> =
            [self.condition.as_deref(), slice.range.as_deref(), more].into_iter().flatten().collect();
        let only_those = if conditions.is_empty() { "" } else { " WHERE " };
        format!("SELECT {what} FROM ONLY {}{only_those}{}", slice.sql_name, conditions.join(" AND "))
    }
}

/// One session of the image at work.
pub(crate) struct Session<'s> {
    pub(crate) open: &'s ReadableImage,
    pub(crate) client: Arc<Client>,
    pub(crate) claims: Claims,
    pub(crate) mode: FormatPreference,
    pub(crate) pace: Arc<Pace>,
}

/// Which tables a session holds locks of.
pub(crate) enum Claims {
    /// All of them.
    HeldByLeader,
    Own(HashSet<String>),
}

/// Why rows do not go on.
enum Halt {
    /// After so many rows comes one that the server cannot send.
    TooLong {
        rows: u64,
        error: PostgresError,
    },
    /// So it is with something else that the server says.
    Refused {
        rows: u64,
        error: PostgresError,
    },
    Other(SourceError),
}

impl From<Halt> for SourceError {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::TooLong { error, .. } | Halt::Refused { error, .. } => error.into(),
            Halt::Other(error) => error,
        }
    }
}

impl Session<'_> {
    /// The session that reads these tables: this one, unless somebody queues up for one of them. Then it is the leader,
    /// who holds their locks already and whom the watch looks after.
    fn claim(&mut self, tables: Vec<String>) -> Result<Arc<Client>, SourceError> {
        let Claims::Own(claimed) = &mut self.claims else { return Ok(Arc::clone(&self.client)) };
        for table in tables {
            if !claimed.contains(&table) {
                match self.open.image.claim(&self.client, &table)? {
                    LockClaim::Held => claimed.insert(table),
                    LockClaim::SomebodyWaits => return Ok(Arc::clone(self.open.image.leader())),
                };
            }
        }
        Ok(Arc::clone(&self.client))
    }

    /// Savepoints of two readers in one session would end each other.
    fn turn(&self, client: &Arc<Client>) -> Option<MutexGuard<'_, ()>> {
        let turn = &self.open.leader_turn;
        Arc::ptr_eq(client, self.open.image.leader()).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_slice(&mut self, table: &Readable, slice: &Slice, sink: &mut dyn RowSink) -> Result<Vec<Gap>, SourceError> {
        let client = self.claim(table.locks(slice))?;
        let _turn = self.turn(&client);
        let mut gaps = Vec::new();
        let mut parents = Parents::Asked;
        if let Some(reason) = &table.unasked {
            parents = Parents::LeftAlone;
            gaps.extend(table.unasked_gap(reason));
        }
        let is_ordered = slice.order == RowOrder::ByCtid && table.condition.is_none();
        // Narrow rows might come from an index, in its order; long ones are in none.
        let as_they_lie = is_ordered && table.companions().next().is_some();
        let mut rest = as_they_lie.then(|| "ctid >= '(0,0)'::pg_catalog.tid".to_owned());
        loop {
            client.execute("beginning to read", "SAVEPOINT reading")?;
            let at = ReadPlace { client: &client, table, slice, parents };
            match self.read_rows(at, (rest.as_deref(), &mut *sink)) {
                Ok(()) => {
                    client.execute("ending to read", "RELEASE SAVEPOINT reading")?;
                    return Ok(gaps);
                }
                Err(Halt::TooLong { rows, .. }) if is_ordered => {
                    client.execute("going back", UNDO)?;
                    let ctid = at.ctid(rest.as_deref(), rows)?;
                    let this = format!("ctid = '{ctid}'::pg_catalog.tid");
                    self.read_long_row(at, &this, (&mut *sink, &mut gaps))?;
                    rest = Some(format!("ctid > '{ctid}'::pg_catalog.tid"));
                }
                Err(Halt::Refused { rows, error }) if at.asks() && (is_ordered || rows == 0) => {
                    client.execute("going back", UNDO)?;
                    if let Some(last) = rows.checked_sub(1) {
                        rest = Some(format!("ctid > '{}'::pg_catalog.tid", at.ctid(rest.as_deref(), last)?));
                    }
                    gaps.extend(table.unasked_gap(&error.to_string()));
                    parents = Parents::LeftAlone;
                }
                Err(halt) => return Err(halt.into()),
            }
        }
    }

    /// Reads the rows of a slice that meet this condition.
    fn read_rows(&self, at: ReadPlace<'_>, (those, sink): (Option<&str>, &mut dyn RowSink)) -> Result<(), Halt> {
        let ReadPlace { client, table, slice, parents } = at;
        let (columns, selected): (Vec<_>, Vec<_>) = table.selected(slice, parents, self.mode).into_iter().unzip();
        let select = table.select(slice, &selected.join(", "), those);
        let reader = RowReader::new(&table.name, &columns, self.mode, self.open.encoding);
        let reader = reader.with_companions(table.completion());
        copy(client, (&table.name, &select), reader, &mut |bytes| self.pace.spend(bytes), sink)
    }

    /// Reads the one row of a slice that meets this condition, a column at a time.
    fn read_long_row(
        &self,
        at: ReadPlace<'_>,
        this: &str,
        (sink, gaps): (&mut dyn RowSink, &mut Vec<Gap>),
    ) -> Result<(), SourceError> {
        let ReadPlace { client, table, slice, parents } = at;
        client.execute("beginning to read a row", "SAVEPOINT reading")?;
        let mut cells = Vec::with_capacity(table.columns.len());
        for (column, selected) in table.selected(slice, parents, self.mode) {
            let select = table.select(slice, &selected, Some(this));
            let mut spend = |bytes| self.pace.spend(bytes);
            match one_cell(client, (&table.name, &select), &column, (self.mode, self.open.encoding), &mut spend) {
                Ok(cell) => cells.push(cell),
                Err(Halt::TooLong { error, .. }) => {
                    client.execute("going back", UNDO)?;
                    let reason = format!("one row is not captured: column {} of it, {error}", column.0);
                    gaps.push(Gap { object: table.name.clone(), reason });
                    return Ok(());
                }
                Err(Halt::Refused { error, .. }) if at.asks() => {
                    client.execute("going back", UNDO)?;
                    gaps.extend(table.unasked_gap(&error.to_string()));
                    return self.read_long_row(ReadPlace { parents: Parents::LeftAlone, ..at }, this, (sink, gaps));
                }
                Err(halt) => return Err(halt.into()),
            }
        }
        client.execute("ending to read a row", "RELEASE SAVEPOINT reading")?;
        let mut cells: Vec<Cell<'_>> = cells.iter().map(OwnedCell::get).collect();
        table.completion().complete(&mut cells);
        sink.row(&cells).map_err(SourceError::Sink)
    }
}

/// What is read, and where.
#[derive(Clone, Copy)]
struct ReadPlace<'a> {
    client: &'a Client,
    table: &'a Readable,
    slice: &'a Slice,
    parents: Parents,
}

impl ReadPlace<'_> {
    /// Whether there are parents that are asked.
    fn asks(&self) -> bool {
        self.parents == Parents::Asked && self.table.companions().next().is_some()
    }

    /// Where the row is that has so many before it, of those that meet this condition.
    fn ctid(&self, those: Option<&str>, before: u64) -> Result<String, PostgresError> {
        let sql = self.table.select(self.slice, "ctid", those);
        self.client.value("looking for a row", &format!("{sql} ORDER BY ctid OFFSET {before} LIMIT 1"))
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
        self.read_slice(of, slice, sink).map_err(|error| open.explain(error))
    }
}

/// Passes on the rows of a copy; `spend` hears of its bytes.
fn copy(
    client: &Client,
    (table, select): (&str, &str),
    mut reader: RowReader,
    spend: &mut dyn FnMut(usize),
    sink: &mut dyn RowSink,
) -> Result<(), Halt> {
    let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
    let halt = |rows, error: PostgresError| match error.state() {
        // Not a session's end, nor somebody's wish.
        Some(state) if !state.starts_with("08") && !state.starts_with("57") => Halt::Refused { rows, error },
        _ => Halt::Other(error.into()),
    };
    let messages = client.copy_out(&format!("reading {table}"), &sql).map_err(|error| halt(0, error))?;
    for message in messages {
        let message = message.map_err(|error| match error.state() {
            Some(TOO_LONG) => Halt::TooLong { rows: reader.rows(), error },
            _ => halt(reader.rows(), error),
        })?;
        spend(message.len());
        reader.push(&message, sink).map_err(|error| Halt::Other(rows_error(error)))?;
    }
    reader.finish().map(|_| ()).map_err(|error| Halt::Other(rows_error(error)))
}

/// The cell of a copy of one row with one column.
fn one_cell(
    client: &Client,
    (table, select): (&str, &str),
    column: &(String, ColumnType),
    (mode, encoding): (FormatPreference, SessionEncoding),
    spend: &mut dyn FnMut(usize),
) -> Result<OwnedCell, Halt> {
    struct First(Option<OwnedCell>);
    impl RowSink for First {
        fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
            self.0 = cells.first().map(OwnedCell::new);
            Ok(())
        }
    }
    let reader = RowReader::new(table, std::slice::from_ref(column), mode, encoding);
    let mut first = First(None);
    copy(client, (table, select), reader, spend, &mut first)?;
    let missing = || Halt::Other(failed(format!("read {table}"), format!("column {} is not there", column.0)));
    first.0.ok_or_else(missing)
}

/// What rows from before a column have in it, by the way that all its values take.
pub(crate) fn default(
    client: &Client,
    (kind, column, text): (&ColumnType, &PgColumn, &str),
    encoding: SessionEncoding,
    mode: FormatPreference,
) -> Result<OwnedCell, SourceError> {
    let literal = text.replace('\'', "''");
    let select = format!(
        "SELECT {} FROM (SELECT '{literal}'::{} AS value) AS one",
        kind.select("value", mode),
        column.type_name
    );
    let named = ("value".to_owned(), kind.clone());
    Ok(one_cell(client, ("a column's default", &select), &named, (mode, encoding), &mut |_| ())?)
}

fn rows_error(error: RowsError) -> SourceError {
    match error {
        RowsError::Sink { source, .. } => SourceError::Sink(source),
        other => failed("read the rows", chain(&other)),
    }
}

pub(crate) fn failed(doing: impl Into<String>, reason: impl ToString) -> SourceError {
    SourceError::Failed { doing: doing.into(), reason: reason.to_string() }
}
