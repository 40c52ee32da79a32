//! The pages of large objects as a table of the snapshot.

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::Table;
use crate::engine::postgres::schema::catalog_queries::LargeObjectPages;
use crate::engine::postgres::schema::table::{LARGE_OBJECTS, PgColumn, PgTable, TableRelation, plain_column};
use crate::engine::postgres::value::column_type::Collation;

/// A column of the table with the pages of large objects.
struct LargeObjectColumn {
    name: &'static str,
    type_name: &'static str,
    /// Built-in types have the same OID on every server.
    type_oid: u32,
}

const LARGE_OBJECT_COLUMNS: [LargeObjectColumn; 3] = [
    LargeObjectColumn { name: "loid", type_name: "oid", type_oid: 26 },
    LargeObjectColumn { name: "pageno", type_name: "integer", type_oid: 23 },
    LargeObjectColumn { name: "data", type_name: "bytea", type_oid: 17 },
];

/// The contents of large objects, as a table of the snapshot. It has one row per stored page, so holes stay holes.
/// Owners, grants and comments are in the schema document.
pub(super) fn large_objects_table(pages: &LargeObjectPages) -> PgTable {
    PgTable {
        described: large_objects_contract_table(pages),
        columns: LARGE_OBJECT_COLUMNS.iter().map(large_object_pg_column).collect(),
        references: Vec::new(),
        relations: vec![large_objects_relation(pages)],
        condition: None,
        sql_name: LARGE_OBJECTS.to_owned(),
    }
}

fn large_objects_contract_table(pages: &LargeObjectPages) -> Table {
    let columns = (1..).zip(&LARGE_OBJECT_COLUMNS).map(|(position, column)| plain_column(column.name, position));
    Table {
        name: LARGE_OBJECTS.to_owned(),
        oid: Some(u64::from(pages.oid)),
        columns: columns.collect(),
        key: vec![0, 1],
        foreign_keys: Vec::new(),
        rows_estimate: pages.rows_estimate,
        feed_hint: Some("large objects belong to no owner; their pages stay in order".to_owned()),
    }
}

/// The gap of a database whose `objects` large objects the role may not read.
pub(super) fn large_objects_gap(objects: u64) -> Finding {
    let of = if objects == 1 { "1 large object".to_owned() } else { format!("{objects} large objects") };
    let reason = format!(
        "the role may not read the contents of {of}: GRANT SELECT ON {LARGE_OBJECTS}, or \
         GRANT pg_read_all_data"
    );
    Finding::new(FindingKind::UnreadableLargeObjects { objects }, "large objects", reason)
}

fn large_object_pg_column(column: &LargeObjectColumn) -> PgColumn {
    PgColumn {
        type_oid: column.type_oid,
        type_name: column.type_name.to_owned(),
        modifier: -1,
        missing: None,
        collation: Collation::Deterministic,
    }
}

fn large_objects_relation(pages: &LargeObjectPages) -> TableRelation {
    TableRelation {
        oid: pages.oid,
        name: LARGE_OBJECTS.to_owned(),
        sql_name: LARGE_OBJECTS.to_owned(),
        access_method: pages.access_method.clone(),
        pages: pages.pages,
    }
}
