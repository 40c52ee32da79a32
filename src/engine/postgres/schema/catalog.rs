//! The tables of a database as a backup sees them: a partitioned table is one table, what an extension makes
//! again is none, and what cannot be captured is a gap with a name and a reason.
//!
//! It reads no rows. Values that rows from before a column have in it are kept as text for whoever decodes them.

use std::collections::BTreeMap;

use crate::engine::contract::{Column, ForeignKey, Gap, Strength, Table};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog_queries::{
    ColumnOrigin, ExtensionMembership, IndexRank, LargeObjectPages, Nulls, PgAttribute, PgRelation, ReadObstacle,
    Reference, RelationKind, UniqueIndex, attributes, feeds, hidden, large_objects, references, relations, uniques,
    unreadable_sequences,
};
use crate::engine::postgres::schema::table::{
    LARGE_OBJECTS, Parent, PgColumn, PgReference, PgTable, TablePart, qualified,
};
use crate::engine::postgres::value::column_type::Collation;
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

/// Reads the catalogs as the session's snapshot has them.
pub fn read_catalog(client: &Client) -> Result<PgCatalog, QueryError> {
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
    let unreadable = facts.relations.iter().filter(|relation| relation.obstacle == Some(ReadObstacle::NoRight));
    let unreadable = unreadable.map(sql_name).collect();
    let mut tables: Vec<PgTable> = facts.relations.iter().filter_map(|relation| facts.table(relation)).collect();
    match large_objects(client)?.as_ref().map(large_objects_table) {
        Some(Ok(pages)) => tables.push(pages),
        Some(Err(gap)) => gaps.push(gap),
        None => {}
    }
    let sequences = unreadable_sequences(client)?.into_iter();
    let unreadable_sequences =
        sequences.map(|(schema, name)| format!("{}.{}", quote_identifier(&schema), quote_identifier(&name))).collect();
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
    format!("{}.{}", quote_identifier(&relation.schema), quote_identifier(&relation.name))
}

fn gap_of(relation: &PgRelation) -> Option<Gap> {
    let reason = match (&relation.extension, &relation.obstacle) {
        (Some(ExtensionMembership::Member { extension }), _) if relation.pages > 0 => {
            format!("its rows are taken for a part of extension {extension}, which makes the table anew")
        }
        (Some(ExtensionMembership::Member { .. }), _) | (_, None) => return None,
        (_, Some(ReadObstacle::Unnamed)) => {
            "its name, or that of a column or type in it, is not UTF-8: its rows are not captured".to_owned()
        }
        (_, Some(ReadObstacle::NoRight)) => {
            let name = sql_name(relation);
            format!("the role may not read it: neither rows nor definition are captured; GRANT SELECT ON {name} helps")
        }
        // It has no rows of its own.
        (_, Some(_)) if relation.kind == RelationKind::Partitioned => return None,
        (_, Some(ReadObstacle::RowSecurity)) => {
            "row security would hide rows from the role: none are captured; ALTER ROLE ... BYPASSRLS helps".to_owned()
        }
        (_, Some(ReadObstacle::Unlogged)) => "an unlogged table has no rows on a standby".to_owned(),
        (_, Some(ReadObstacle::Foreign { server })) => format!("its rows are on server {server}"),
    };
    Some(Gap { object: name_of(relation), reason })
}

impl CatalogFacts {
    /// Whether its rows are captured, those of a partitioned table through its leaves.
    fn is_read(&self, relation: &PgRelation) -> bool {
        let is_member = matches!(relation.extension, Some(ExtensionMembership::Member { .. }));
        // What hides rows of a root does not hide its leaves'; without the right to it, it is in no dump.
        let may_be = match relation.kind {
            RelationKind::Ordinary => relation.obstacle.is_none(),
            RelationKind::Partitioned => {
                !matches!(relation.obstacle, Some(ReadObstacle::NoRight | ReadObstacle::Unnamed))
            }
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
            Some(ExtensionMembership::Configuration { condition }) => {
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
        leaves.filter(|leaf| leaf.kind == RelationKind::Ordinary && leaf.obstacle.is_none())
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
        let is_free = |relation: &PgRelation| relation.obstacle.is_none() && self.is_read(relation);
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

/// The columns: name, type and its number, which is the same on every server.
const COLUMNS: [(&str, &str, u32); 3] = [("loid", "oid", 26), ("pageno", "integer", 23), ("data", "bytea", 17)];

/// The table, or why it cannot be read.
fn large_objects_table(pages: &LargeObjectPages) -> Result<PgTable, Gap> {
    if pages.obstacle.is_some() {
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
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn names_are_one_to_one(a in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"], b in ["[a.\"B$ é1]{1,4}", "[a.\"B$ é1]{1,4}"]) {
            prop_assert_eq!(a == b, qualified(&a[0], &a[1]) == qualified(&b[0], &b[1]));
        }
    }
}
