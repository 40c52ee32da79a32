//! A table, and how a backup reads its rows and the tables that its foreign keys reference.

use crate::engine::contract::{Affinity, Column, Table};
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::value::column_type::Collation;
use crate::format::cell::{Cell, OwnedCell};
use crate::format::key::Fold;

/// The name of the table with the pages of large objects, both in a snapshot and on the server.
pub const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject";

/// A table and how to read its rows.
#[derive(Clone, Debug)]
pub struct PgTable {
    /// The table as the contract describes it. Every `missing` is NULL until [`PgColumn::missing`] is decoded.
    pub described: Table,
    /// In the order of `described.columns`.
    pub columns: Vec<PgColumn>,
    /// In the order of `described.foreign_keys`.
    pub references: Vec<PgReference>,
    /// The relations with the rows: the table itself, or the leaves of a partitioned table.
    pub relations: Vec<TableRelation>,
    /// SQL condition for WHERE that selects the user's own rows. Only for tables of extensions.
    pub condition: Option<String>,
    /// Qualified and quoted for SQL, as used by a restore.
    pub sql_name: String,
}

/// A relation with storage. Read it with ONLY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRelation {
    pub oid: u32,
    /// In the form of [`Table::name`].
    pub name: String,
    /// Qualified and quoted for SQL.
    pub sql_name: String,
    /// `heap`, or another method, for which ranges of `ctid` are not used.
    pub access_method: String,
    pub pages: u64,
}

/// How to query the parent of a foreign key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgReference {
    /// OID of the constraint.
    pub oid: u32,
    /// None unless all of its rows are read.
    pub parent: Option<Parent>,
    /// The parent's columns, in the order of the key.
    pub columns: Vec<PgColumn>,
}

/// The table that a foreign key references, quoted, as SQL after FROM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parent {
    /// Begins with ONLY.
    Unpartitioned(String),
    /// The backup locks only its partitions, not the table itself.
    Partitioned(String),
}

impl Parent {
    /// The SQL after FROM or LOCK TABLE.
    pub(crate) fn sql(&self) -> &str {
        match self {
            Self::Unpartitioned(sql) | Self::Partitioned(sql) => sql,
        }
    }
}

/// The type of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgColumn {
    pub type_oid: u32,
    /// As `format_type` writes it, with its modifier.
    pub type_name: String,
    pub modifier: i32,
    /// The value of this column in rows that are older than the column, as the type's output function writes it.
    pub missing: Option<String>,
    pub collation: Collation,
}

/// A column whose missing value and fold are set later.
pub(super) fn plain_column(name: &str, position: u32) -> Column {
    Column {
        name: name.into(),
        position,
        missing: OwnedCell::new(&Cell::Null),
        hidden: false,
        fold: Fold::Exact,
        affinity: Affinity::None,
    }
}

/// The name of a table in a snapshot: `schema.table`. A part is quoted only if it would be ambiguous otherwise.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted_if_needed(schema), quoted_if_needed(name))
}

/// Words that SQL takes as a schema only in quotes.
/// See <https://www.postgresql.org/docs/current/sql-keywords-appendix.html>.
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
    collate collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except \
    false fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join \
    lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer \
    overlaps placing primary references returning right select session_user similar some symmetric system_user table \
    tablesample then to trailing true union unique user using variadic verbose when where window with ";

/// The name of a table or sequence for a GRANT that a person copies. It is the name in a snapshot, except that a schema
/// which is a word of SQL is quoted. Any word may follow a dot.
#[must_use]
pub fn grantable(schema: &str, name: &str) -> String {
    if RESERVED.contains(&format!(" {schema} ")) {
        return format!("{}.{}", quote_identifier(schema), quoted_if_needed(name));
    }
    qualified(schema, name)
}

fn quoted_if_needed(name: &str) -> String {
    let is_plain = name.char_indices().all(|(at, c)| is_plain_start(c) || at > 0 && (c.is_ascii_digit() || c == '$'));
    if is_plain && !name.is_empty() { name.to_owned() } else { quote_identifier(name) }
}

fn is_plain_start(c: char) -> bool {
    c.is_ascii_lowercase() || c == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{grantable, qualified};

    #[test]
    fn names_are_quoted_only_where_needed() {
        assert_eq!(qualified("public", "users"), "public.users");
        assert_eq!(qualified("public", "Users"), "public.\"Users\"");
        assert_eq!(qualified("a.b", "c\"d"), "\"a.b\".\"c\"\"d\"");
        assert_eq!(qualified("größe", "1st"), "\"größe\".\"1st\"");
        assert_eq!(qualified("_a1$", "select"), "_a1$.select");
        assert_eq!(grantable("public", "select"), "public.select");
        assert_eq!(grantable("user", "Users"), "\"user\".\"Users\"");
        assert_eq!(grantable("users", "a"), "users.a");
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn distinct_names_stay_distinct(a in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"], b in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"]) {
            prop_assert_eq!(a == b, qualified(&a[0], &a[1]) == qualified(&b[0], &b[1]));
        }
    }
}
