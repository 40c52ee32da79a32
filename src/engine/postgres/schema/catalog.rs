//! The tables of a database as a backup sees them: a partitioned table is one table, what an extension makes
//! again is none, and what cannot be captured is a gap with a name and a reason.
//!
//! It reads no rows. Values that rows from before a column have in it are kept as text for whoever decodes them.

use std::collections::BTreeMap;

use crate::engine::contract::{Column, ForeignKey, Gap, Strength, Table};
use crate::engine::postgres::connect::answer::AnswerError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::schema::large;
use crate::engine::postgres::schema::relations::{
    ColumnOrigin, Hindrance, IndexRank, Membership, Nulls, PgAttribute, PgRelation, Reference, RelationKind,
    UniqueIndex, attributes, feeds, hidden, large_objects, references, relations, uniques, unreadable_sequences,
};
use crate::engine::postgres::value::transport::{Collation, quoted};
use crate::format::cell::{Cell, OwnedCell};
use crate::format::key::Fold;

/// How long somebody may keep us from looking at a table that he alters.
const LOCK_PATIENCE: &str = "SET LOCAL lock_timeout = '30s'";

/// What can be read, and what cannot.
#[derive(Clone, Debug)]
pub struct PgCatalog {
    /// Ordered by schema and name; last what large objects hold, if there are any.
    pub tables: Vec<PgTable>,
    pub gaps: Vec<Gap>,
    /// Tables that `pg_dump` must leave out because the role may not lock them, quoted for SQL.
    pub unreadable: Vec<String>,
    /// Sequences that `pg_dump` must not look into, quoted for SQL. Reading them is what makes gaps of them.
    pub unreadable_sequences: Vec<String>,
}

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
    let part = |name: &str| {
        let plain =
            |(at, c): (usize, char)| c.is_ascii_lowercase() || c == '_' || at > 0 && (c.is_ascii_digit() || c == '$');
        if !name.is_empty() && name.char_indices().all(plain) { name.to_owned() } else { quoted(name) }
    };
    format!("{}.{}", part(schema), part(name))
}

/// Reads the catalogs as the session's snapshot has them.
pub fn read(client: &Client) -> Result<PgCatalog, AnswerError> {
    // Sizes are asked for under a lock; the setting ends with the transaction, or when tables are locked.
    client.execute("setting how long to wait for locks", LOCK_PATIENCE)?;
    let mut facts = CatalogFacts {
        relations: relations(client)?,
        attributes: BTreeMap::new(),
        uniques: uniques(client)?,
        references: references(client)?,
        feeds: feeds(client)?.into_iter().collect(),
    };
    for attribute in attributes(client)? {
        facts.attributes.entry(attribute.relation).or_default().push(attribute);
    }
    let mut gaps: Vec<Gap> = facts.relations.iter().filter_map(gap_of).collect();
    let hidden = hidden(client)?.into_iter();
    gaps.extend(hidden.map(|(object, reason)| Gap { object, reason }));
    let unreadable = facts.relations.iter().filter(|relation| relation.hindrance == Some(Hindrance::NoRight));
    let unreadable = unreadable.map(sql_name).collect();
    let mut tables: Vec<PgTable> = facts.relations.iter().filter_map(|relation| facts.table(relation)).collect();
    match large_objects(client)?.as_ref().map(large::table) {
        Some(Ok(pages)) => tables.push(pages),
        Some(Err(gap)) => gaps.push(gap),
        None => {}
    }
    let sequences = unreadable_sequences(client)?.into_iter();
    let unreadable_sequences =
        sequences.map(|(schema, name)| format!("{}.{}", quoted(&schema), quoted(&name))).collect();
    Ok(PgCatalog { tables, gaps, unreadable, unreadable_sequences })
}

struct CatalogFacts {
    relations: Vec<PgRelation>,
    /// By relation.
    attributes: BTreeMap<u32, Vec<PgAttribute>>,
    uniques: Vec<UniqueIndex>,
    references: Vec<Reference>,
    /// Name of the key by relation.
    feeds: BTreeMap<u32, String>,
}

fn name_of(relation: &PgRelation) -> String {
    qualified(&relation.schema, &relation.name)
}

fn sql_name(relation: &PgRelation) -> String {
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.name))
}

fn gap_of(relation: &PgRelation) -> Option<Gap> {
    let reason = match (&relation.extension, &relation.hindrance) {
        (Some(Membership::Member { extension }), _) if relation.pages > 0 => {
            format!("its rows are taken for a part of extension {extension}, which makes the table anew")
        }
        (Some(Membership::Member { .. }), _) | (_, None) => return None,
        (_, Some(Hindrance::Unnamed)) => {
            "its name, or that of a column or type in it, is not UTF-8: its rows are not captured".to_owned()
        }
        (_, Some(Hindrance::NoRight)) => {
            let name = sql_name(relation);
            format!("the role may not read it: neither rows nor definition are captured; GRANT SELECT ON {name} helps")
        }
        // It has no rows of its own.
        (_, Some(_)) if relation.kind == RelationKind::Partitioned => return None,
        (_, Some(Hindrance::RowSecurity)) => {
            "row security would hide rows from the role: none are captured; ALTER ROLE ... BYPASSRLS helps".to_owned()
        }
        (_, Some(Hindrance::Unlogged)) => "an unlogged table has no rows on a standby".to_owned(),
        (_, Some(Hindrance::Foreign { server })) => format!("its rows are on server {server}"),
    };
    Some(Gap { object: name_of(relation), reason })
}

impl CatalogFacts {
    /// Whether its rows are captured, those of a partitioned table through its leaves.
    fn is_read(&self, relation: &PgRelation) -> bool {
        let is_member = matches!(relation.extension, Some(Membership::Member { .. }));
        // What hides rows of a root does not hide its leaves'; without the right to it, it is in no dump.
        let may_be = match relation.kind {
            RelationKind::Ordinary => relation.hindrance.is_none(),
            RelationKind::Partitioned => !matches!(relation.hindrance, Some(Hindrance::NoRight | Hindrance::Unnamed)),
            RelationKind::Foreign => false,
        };
        !is_member && may_be
    }

    /// Whether its rows are those of a partitioned table that is captured. Leaves of others are tables of their own.
    fn is_of_root(&self, relation: &PgRelation) -> bool {
        let root = relation.root.and_then(|root| self.relations.iter().find(|other| other.oid == root));
        root.is_some_and(|root| relation.kind == RelationKind::Partitioned || self.is_read(root))
    }

    fn table(&self, relation: &PgRelation) -> Option<PgTable> {
        if !self.is_read(relation) || self.is_of_root(relation) {
            return None;
        }
        let parts: Vec<&PgRelation> = match relation.kind {
            RelationKind::Partitioned => self.leaves(relation.oid).collect(),
            _ => vec![relation],
        };
        let attributes: Vec<&PgAttribute> = self.stored(relation.oid).collect();
        let columns = attributes.iter().map(|attribute| self.column(attribute, &parts)).collect();
        let condition = match &relation.extension {
            Some(Membership::Configuration { condition }) => {
                Some(condition_of(condition)).filter(|text| !text.is_empty())
            }
            _ => None,
        };
        let (foreign_keys, references) = self.foreign_keys(relation.oid, &attributes);
        let table = Table {
            name: name_of(relation),
            oid: Some(u64::from(relation.oid)),
            columns: attributes.iter().map(|attribute| described(attribute)).collect(),
            key: self.key(relation.oid, &attributes),
            foreign_keys,
            rows_estimate: rows_estimate(&parts, relation.kind),
            feed_hint: self
                .feeds
                .get(&relation.oid)
                .map(|key| format!("rows are appended in the order of {key} and the oldest are gone")),
        };
        let parts = parts.into_iter().map(part).collect();
        Some(PgTable { table, columns, references, parts, condition, sql_name: sql_name(relation) })
    }

    /// Those that can be read.
    fn leaves(&self, root: u32) -> impl Iterator<Item = &PgRelation> {
        let leaves = self.relations.iter().filter(move |relation| relation.root == Some(root));
        leaves.filter(|leaf| leaf.kind == RelationKind::Ordinary && leaf.hindrance.is_none())
    }

    fn stored(&self, relation: u32) -> impl Iterator<Item = &PgAttribute> {
        let all = self.attributes.get(&relation).into_iter().flatten();
        all.filter(|attribute| attribute.value == ColumnOrigin::Stored)
    }

    fn column(&self, attribute: &PgAttribute, parts: &[&PgRelation]) -> PgColumn {
        // Of a partitioned table only the leaves that were there when the column was added know it.
        let of_part = |part: &&PgRelation| {
            self.stored(part.oid).find(|other| other.name == attribute.name).and_then(|other| other.missing.clone())
        };
        PgColumn {
            type_oid: attribute.type_oid,
            type_name: attribute.type_name.clone(),
            modifier: attribute.modifier,
            collation: attribute.collation,
            missing: attribute.missing.clone().or_else(|| parts.iter().find_map(of_part)),
        }
    }

    /// The primary key, else the unique index with the fewest columns, none of which may be NULL.
    fn key(&self, relation: u32, attributes: &[&PgAttribute]) -> Vec<usize> {
        let usable = self.uniques.iter().filter(|unique| unique.relation == relation).filter_map(|unique| {
            let columns = positions(&unique.columns, attributes)?;
            let filled = columns.iter().all(|&at| attributes[at].nulls == Nulls::Forbidden);
            filled.then_some((unique.rank == IndexRank::Unique, columns))
        });
        // The first of equals: they are ordered by name.
        let best = usable.min_by_key(|(not_primary, columns)| (*not_primary, columns.len()));
        best.map(|(_, columns)| columns).unwrap_or_default()
    }

    fn foreign_keys(&self, relation: u32, attributes: &[&PgAttribute]) -> (Vec<ForeignKey>, Vec<PgReference>) {
        let own = self.references.iter().filter(|reference| reference.relation == relation);
        let keys = own.filter_map(|reference| {
            let parent = self.relations.iter().find(|other| other.oid == reference.parent)?;
            let known = self.attributes.get(&parent.oid)?;
            let find = |number: &u32| known.iter().find(|attribute| attribute.number == *number);
            let theirs = reference.parent_columns.iter().map(find).collect::<Option<Vec<_>>>()?;
            // A leaf's rows are its root's.
            let root = self.relations.iter().find(|other| Some(other.oid) == parent.root).unwrap_or(parent);
            let key = ForeignKey {
                columns: positions(&reference.columns, attributes)?,
                parent: name_of(root),
                parent_columns: theirs.iter().map(|attribute| attribute.name.clone()).collect(),
                strength: strength(&reference.on_delete),
                by_server: Vec::new(),
            };
            let columns = theirs.iter().map(|attribute| self.column(attribute, &[])).collect();
            Some((key, PgReference { oid: reference.oid, parent: self.whole(parent), columns }))
        });
        keys.unzip()
    }

    /// A table that can be asked for rows without a look at who may see which, or at what nobody locked.
    fn whole(&self, relation: &PgRelation) -> Option<Parent> {
        let is_free = |relation: &PgRelation| relation.hindrance.is_none() && self.is_read(relation);
        let root = relation.root.unwrap_or(relation.oid);
        let mut all = self.relations.iter().filter(|other| other.oid == root || other.root == Some(root));
        match relation.kind {
            RelationKind::Ordinary => is_free(relation).then(|| Parent::Alone(format!("ONLY {}", sql_name(relation)))),
            RelationKind::Partitioned => all.all(is_free).then(|| Parent::Partitioned(sql_name(relation))),
            RelationKind::Foreign => None,
        }
    }
}

/// Extensions write the condition with its WHERE.
fn condition_of(stored: &str) -> String {
    let stored = stored.trim();
    match stored.get(..5) {
        Some(word) if word.eq_ignore_ascii_case("where") => stored[5..].trim().to_owned(),
        _ => stored.to_owned(),
    }
}

/// With `SET NULL (column)` the row stays as well, and with one column NULL it refers to nobody.
fn strength(on_delete: &str) -> Strength {
    match on_delete {
        "n" | "d" => Strength::Weak,
        _ => Strength::Owning,
    }
}

/// None if one of them is not read.
fn positions(numbers: &[u32], attributes: &[&PgAttribute]) -> Option<Vec<usize>> {
    numbers.iter().map(|number| attributes.iter().position(|attribute| attribute.number == *number)).collect()
}

fn described(attribute: &PgAttribute) -> Column {
    Column {
        name: attribute.name.clone(),
        position: attribute.number,
        missing: OwnedCell::new(&Cell::Null),
        hidden: false,
        fold: Fold::Exact,
    }
}

fn rows_estimate(parts: &[&PgRelation], kind: RelationKind) -> Option<u64> {
    let known: Option<Vec<u64>> = parts.iter().map(|part| part.rows_estimate).collect();
    match kind {
        RelationKind::Partitioned if parts.is_empty() => Some(0),
        _ => known.map(|known| known.iter().sum()),
    }
}

fn part(relation: &PgRelation) -> TablePart {
    TablePart {
        oid: relation.oid,
        name: name_of(relation),
        sql_name: sql_name(relation),
        access_method: relation.access_method.clone().unwrap_or_default(),
        pages: relation.pages,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_where_needed() {
        assert_eq!(qualified("public", "users"), "public.users");
        assert_eq!(qualified("public", "Users"), "public.\"Users\"");
        assert_eq!(qualified("a.b", "c\"d"), "\"a.b\".\"c\"\"d\"");
        assert_eq!(qualified("größe", "1st"), "\"größe\".\"1st\"");
        assert_eq!(qualified("_a1$", "select"), "_a1$.select");
    }

    #[test]
    fn conditions_of_extensions() {
        assert_eq!(condition_of("WHERE a > 1"), "a > 1");
        assert_eq!(condition_of(" where\n NOT standard_entry"), "NOT standard_entry");
        assert_eq!((condition_of(""), condition_of("é > 1")), (String::new(), "é > 1".to_owned()));
    }

    proptest! {
        #[test]
        fn names_are_one_to_one(a in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"], b in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"]) {
            prop_assert_eq!(a == b, qualified(&a[0], &a[1]) == qualified(&b[0], &b[1]));
        }
    }
}
