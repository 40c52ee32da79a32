//! A table of a database, and how a backup reaches its rows and those of the tables that its foreign keys name.

use crate::engine::contract::Table;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::value::column_type::Collation;

/// The name of the table of large objects' pages in a snapshot, and in the server.
pub const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject";

/// A table and how its rows are reached.
#[derive(Clone, Debug)]
pub struct PgTable {
    /// Every `missing` is NULL until [`PgColumn::missing`] has been decoded.
    pub table: Table,
    /// In the order of `table.columns`.
    pub columns: Vec<PgColumn>,
    /// In the order of `table.foreign_keys`.
    pub references: Vec<PgReference>,
    /// Where the rows are: the table itself, or the leaves of a partitioned one.
    pub parts: Vec<TablePart>,
    /// What a row must meet to be the user's own (tables of extensions), as SQL after WHERE.
    pub condition: Option<String>,
    /// The table as a restore inserts into it, quoted for SQL.
    pub sql_name: String,
}

/// A relation with storage; read it with ONLY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablePart {
    pub oid: u32,
    /// Name by the rules of [`Table::name`].
    pub name: String,
    /// Quoted for SQL.
    pub sql_name: String,
    /// `heap`, or what has no ctid ranges.
    pub access_method: String,
    pub pages: u64,
}

/// How the parent of a foreign key can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgReference {
    /// Of the constraint.
    pub oid: u32,
    /// None unless every row of it is read.
    pub parent: Option<Parent>,
    /// Of the parent, in the order of the key.
    pub columns: Vec<PgColumn>,
}

/// A table that a foreign key names, as SQL after FROM, quoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parent {
    /// With ONLY before it.
    Alone(String),
    /// No lock is held of it, but of its partitions.
    Partitioned(String),
}

impl Parent {
    /// What to select from, and what to lock.
    pub(crate) fn sql(&self) -> &str {
        match self {
            Self::Alone(sql) | Self::Partitioned(sql) => sql,
        }
    }
}

/// The type of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgColumn {
    pub type_oid: u32,
    /// As `format_type` has it, with its modifier.
    pub type_name: String,
    pub modifier: i32,
    /// What rows from before the column have in it, as the type's output function writes it.
    pub missing: Option<String>,
    pub collation: Collation,
}

/// Name of a table in a snapshot: `schema.table`, each part in quotes only if it could be mistaken otherwise.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted_if_needed(schema), quoted_if_needed(name))
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

    use super::qualified;

    #[test]
    fn names_are_quoted_where_needed() {
        assert_eq!(qualified("public", "users"), "public.users");
        assert_eq!(qualified("public", "Users"), "public.\"Users\"");
        assert_eq!(qualified("a.b", "c\"d"), "\"a.b\".\"c\"\"d\"");
        assert_eq!(qualified("größe", "1st"), "\"größe\".\"1st\"");
        assert_eq!(qualified("_a1$", "select"), "_a1$.select");
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn names_are_one_to_one(a in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"], b in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"]) {
            prop_assert_eq!(a == b, qualified(&a[0], &a[1]) == qualified(&b[0], &b[1]));
        }
    }
}
