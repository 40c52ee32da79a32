//! What large objects hold, as a table of the snapshot: a row for each page that is stored, so that holes stay holes.
//! Owner, grants and comment are in the schema document.

use crate::engine::contract::{Column, Gap, Table};
use crate::engine::postgres::schema::catalog::{PgColumn, PgTable, TablePart};
use crate::engine::postgres::schema::relations::LargeObjectPages;
use crate::engine::postgres::value::transport::Collation;
use crate::format::cell::{Cell, OwnedCell};
use crate::format::key::Fold;

/// The table's name in a snapshot, and in the server.
pub const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject";

/// The columns: name, type and its number, which is the same on every server.
const COLUMNS: [(&str, &str, u32); 3] = [("loid", "oid", 26), ("pageno", "integer", 23), ("data", "bytea", 17)];

/// The table, or why it cannot be read.
pub(crate) fn table(pages: &LargeObjectPages) -> Result<PgTable, Gap> {
    if pages.hindrance.is_some() {
        let reason = format!(
            "the role may not read what {} of them hold: GRANT SELECT ON {LARGE_OBJECTS}, or pg_read_all_data",
            pages.objects
        );
        return Err(Gap { object: "large objects".to_owned(), reason });
    }
    let column = |(position, (name, _, _)): (u32, &(&str, &str, u32))| Column {
        name: (*name).to_owned(),
        position,
        missing: OwnedCell::new(&Cell::Null),
        hidden: false,
        fold: Fold::Exact,
    };
    let table = Table {
        name: LARGE_OBJECTS.to_owned(),
        oid: Some(u64::from(pages.oid)),
        columns: (1..).zip(&COLUMNS).map(column).collect(),
        key: vec![0, 1],
        foreign_keys: Vec::new(),
        rows_estimate: pages.rows_estimate,
        feed_hint: Some("large objects have no owners; their pages stay in order".to_owned()),
    };
    let stored = |(_, type_name, type_oid): &(&str, &str, u32)| PgColumn {
        type_oid: *type_oid,
        type_name: (*type_name).to_owned(),
        modifier: -1,
        missing: None,
        collation: Collation::Deterministic,
    };
    let part = TablePart {
        oid: pages.oid,
        name: LARGE_OBJECTS.to_owned(),
        sql_name: LARGE_OBJECTS.to_owned(),
        access_method: pages.access_method.clone(),
        pages: pages.pages,
    };
    let columns = COLUMNS.iter().map(stored).collect();
    let (parts, references) = (vec![part], Vec::new());
    Ok(PgTable { table, columns, references, parts, condition: None, sql_name: LARGE_OBJECTS.to_owned() })
}
