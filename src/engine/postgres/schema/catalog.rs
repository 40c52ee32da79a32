//! The tables of a database as a backup sees them. A partitioned table is one table, tables that an extension creates
//! are left out, and whatever cannot be captured becomes a gap with a name and a reason.
//!
//! Reads no rows. Default values for rows older than a column are kept as text and decoded elsewhere.

use std::collections::{BTreeMap, HashMap};

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::{Column, ForeignKey, Strength, Table};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog_queries::{
    CatalogReference, ColumnOrigin, ExtensionMembership, IndexRank, LargeObjectPages, Nulls, PgAttribute, PgRelation,
    ReadObstacle, RelationKind, UniqueIndex, UnreadableSequence, attributes, feeds, hidden, large_objects, references,
    relations, uniques, unreadable_sequences,
};
use crate::engine::postgres::schema::large_object_table::{large_objects_gap, large_objects_table};
use crate::engine::postgres::schema::table::{
    Parent, PgColumn, PgReference, PgTable, TableRelation, grantable, plain_column, qualified,
};

/// How long to wait for a table that another session is altering.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '30s'";

/// The tables to read, and what cannot be captured.
#[derive(Clone, Debug)]
pub struct PgCatalog {
    /// Ordered by schema and name. If there are large objects, the table with their pages comes last.
    pub tables: Vec<PgTable>,
    pub gaps: Vec<Finding>,
    /// Tables that `pg_dump` must skip because the role may not lock them. A name in a snapshot is also a pattern of
    /// `pg_dump` that matches only this table.
    pub unreadable: Vec<String>,
    /// Sequences that `pg_dump` must not read, named in the same way. They become gaps when sequences are read.
    pub unreadable_sequences: Vec<String>,
    /// The names of both, as messages show them.
    pub without_right: Vec<String>,
}

/// Reads the catalogs as of the session's snapshot.
/// Fails if a query fails or returns an unexpected value, or if a table's lock is not granted within 30 s.
pub fn read_catalog(client: &Client) -> Result<PgCatalog, QueryError> {
    // Reading a table's size takes a lock. The setting holds until the transaction ends or tables are locked.
    client.execute("setting lock_timeout", LOCK_TIMEOUT)?;
    let mut catalog = PgCatalog::of_facts(&CatalogFacts::read(client)?);
    for (object, reason) in hidden(client)? {
        catalog.gaps.push(Finding::new(FindingKind::UnreadableDefinition, object, reason));
    }
    if let Some(pages) = large_objects(client)? {
        catalog.add_large_objects(&pages);
    }
    for UnreadableSequence { schema, name, pattern } in unreadable_sequences(client)? {
        let name = qualified(&schema, &name);
        catalog.without_right.push(name.clone());
        catalog.unreadable_sequences.push(pattern.unwrap_or(name));
    }
    Ok(catalog)
}

impl PgCatalog {
    fn of_facts(facts: &CatalogFacts) -> Self {
        Self {
            tables: facts.relations.iter().filter_map(|relation| facts.table(relation)).collect(),
            gaps: facts.relations.iter().filter_map(gap_of).collect(),
            unreadable: facts.without_right().map(dump_pattern_of).collect(),
            unreadable_sequences: Vec::new(),
            without_right: facts.without_right().map(name_of).collect(),
        }
    }

    fn add_large_objects(&mut self, pages: &LargeObjectPages) {
        if pages.obstacle.is_some() {
            self.gaps.push(large_objects_gap(pages.objects));
        } else {
            self.tables.push(large_objects_table(pages));
        }
    }
}

/// The contents of the system catalogs, as they were read.
struct CatalogFacts {
    relations: Vec<PgRelation>,
    positions: RelationPositions,
    /// By relation OID.
    attributes: BTreeMap<u32, Vec<PgAttribute>>,
    /// By relation OID.
    uniques: BTreeMap<u32, Vec<UniqueIndex>>,
    /// By OID of the child.
    references: BTreeMap<u32, Vec<CatalogReference>>,
    /// Name of the key column, by relation OID.
    feeds: BTreeMap<u32, String>,
}

/// The pattern by which `pg_dump` skips it.
fn dump_pattern_of(relation: &PgRelation) -> String {
    relation.pattern.clone().unwrap_or_else(|| name_of(relation))
}

fn name_of(relation: &PgRelation) -> String {
    qualified(&relation.schema, &relation.name)
}

fn sql_name(relation: &PgRelation) -> String {
    format!("{}.{}", quote_identifier(&relation.schema), quote_identifier(&relation.name))
}

/// Why rows of a relation are not captured, if they are not.
fn gap_of(relation: &PgRelation) -> Option<Finding> {
    let (kind, reason) = match &relation.extension {
        Some(ExtensionMembership::Member { .. }) if relation.pages == 0 => return None,
        Some(ExtensionMembership::Member { extension }) => {
            let reason = format!("its rows are not captured because extension {extension} creates the table");
            (FindingKind::ExtensionRows { extension: extension.clone() }, reason)
        }
        _ => (obstacle_kind(relation.obstacle.as_ref()?), obstacle_reason(relation)?),
    };
    Some(Finding::new(kind, name_of(relation), reason))
}

fn obstacle_kind(obstacle: &ReadObstacle) -> FindingKind {
    match obstacle {
        ReadObstacle::Unnamed => FindingKind::UnreadableName,
        ReadObstacle::NoRight => FindingKind::NoPrivilege,
        ReadObstacle::RowSecurity => FindingKind::RowSecurity,
        ReadObstacle::Unlogged => FindingKind::UnloggedOnStandby,
        ReadObstacle::Foreign { server } => FindingKind::ForeignTable { server: server.clone() },
    }
}

fn obstacle_reason(relation: &PgRelation) -> Option<String> {
    let reason = match relation.obstacle.as_ref()? {
        ReadObstacle::Unnamed => {
            "the name of the table, a column or a column's type is not UTF-8: its rows are not captured".to_owned()
        }
        ReadObstacle::NoRight => {
            let name = grantable(&relation.schema, &relation.name);
            format!(
                "the role may not read it: neither its rows nor its definition are captured; GRANT SELECT ON {name}"
            )
        }
        // A partitioned table has no rows of its own.
        _ if relation.kind == RelationKind::Partitioned => return None,
        ReadObstacle::RowSecurity => {
            "row security would hide rows from the role: no rows are captured; ALTER ROLE ... BYPASSRLS".to_owned()
        }
        ReadObstacle::Unlogged => "an unlogged table has no rows on a standby".to_owned(),
        ReadObstacle::Foreign { server } => format!("its rows are on server {server}"),
    };
    Some(reason)
}

impl CatalogFacts {
    fn read(client: &Client) -> Result<Self, QueryError> {
        let relations = relations(client)?;
        let uniques = by_relation(uniques(client)?, |unique| unique.relation);
        let references = by_relation(references(client)?, |reference| reference.relation);
        let feeds = feeds(client)?.into_iter().collect();
        let attributes = by_relation(attributes(client)?, |attribute| attribute.relation);
        let positions = RelationPositions::of(&relations);
        Ok(Self { relations, positions, attributes, uniques, references, feeds })
    }

    /// Tables that the role may not lock.
    fn without_right(&self) -> impl Iterator<Item = &PgRelation> {
        self.relations.iter().filter(|relation| relation.obstacle == Some(ReadObstacle::NoRight))
    }

    fn relation(&self, oid: u32) -> Option<&PgRelation> {
        self.positions.by_oid.get(&oid).map(|&at| &self.relations[at])
    }

    /// Whether its rows are captured. A partitioned table's rows are captured through its leaves.
    fn is_read(&self, relation: &PgRelation) -> bool {
        let is_member = matches!(relation.extension, Some(ExtensionMembership::Member { .. }));
        !is_member && may_be_read(relation)
    }

    /// Whether the relation is a partition of a partitioned table that is captured. Leaves of other roots are tables of
    /// their own.
    fn is_of_root(&self, relation: &PgRelation) -> bool {
        let Some(root) = relation.root.and_then(|root| self.relation(root)) else { return false };
        relation.kind == RelationKind::Partitioned || self.is_read(root)
    }

    /// None if its rows are not captured, or belong to another table.
    fn table(&self, relation: &PgRelation) -> Option<PgTable> {
        let is_own = self.is_read(relation) && !self.is_of_root(relation);
        is_own.then(|| self.own_table(relation))
    }

    fn own_table(&self, relation: &PgRelation) -> PgTable {
        let storage = self.storage(relation);
        let attributes: Vec<&PgAttribute> = self.stored(relation.oid).collect();
        let (foreign_keys, references) = self.foreign_keys(relation.oid, &attributes);
        PgTable {
            described: self.contract_table(relation, &attributes, foreign_keys, &storage),
            columns: attributes.iter().map(|attribute| self.column(attribute, &storage)).collect(),
            references,
            relations: storage.into_iter().map(table_relation).collect(),
            condition: relation.extension.as_ref().and_then(row_condition),
            sql_name: sql_name(relation),
        }
    }

    fn contract_table(
        &self,
        relation: &PgRelation,
        attributes: &[&PgAttribute],
        foreign_keys: Vec<ForeignKey>,
        storage: &[&PgRelation],
    ) -> Table {
        Table {
            name: name_of(relation),
            oid: Some(u64::from(relation.oid)),
            columns: attributes.iter().map(|attribute| contract_column(attribute)).collect(),
            key: self.key(relation.oid, attributes),
            foreign_keys,
            rows_estimate: rows_estimate(storage, relation.kind),
            feed_hint: self.feed_hint(relation.oid),
        }
    }

    fn storage<'a>(&'a self, relation: &'a PgRelation) -> Vec<&'a PgRelation> {
        match relation.kind {
            RelationKind::Partitioned => self.leaves(relation.oid).collect(),
            _ => vec![relation],
        }
    }

    fn feed_hint(&self, relation: u32) -> Option<String> {
        let key = self.feeds.get(&relation)?;
        Some(format!("rows are appended in the order of {key} and the oldest are deleted"))
    }

    /// The leaves that can be read.
    fn leaves(&self, root: u32) -> impl Iterator<Item = &PgRelation> {
        self.below(root).filter(|leaf| leaf.kind == RelationKind::Ordinary && leaf.obstacle.is_none())
    }

    /// All relations with this root.
    fn below(&self, root: u32) -> impl Iterator<Item = &PgRelation> {
        let below = self.positions.by_root.get(&root).into_iter().flatten();
        below.map(|&at| &self.relations[at])
    }

    fn stored(&self, relation: u32) -> impl Iterator<Item = &PgAttribute> {
        let all = self.attributes.get(&relation).into_iter().flatten();
        all.filter(|attribute| attribute.origin == ColumnOrigin::Stored)
    }

    fn column(&self, attribute: &PgAttribute, storage: &[&PgRelation]) -> PgColumn {
        PgColumn {
            type_oid: attribute.type_oid,
            type_name: attribute.type_name.clone(),
            modifier: attribute.modifier,
            collation: attribute.collation,
            missing: attribute.missing.clone().or_else(|| self.missing_of_storage(attribute, storage)),
        }
    }

    /// In a partitioned table, only leaves that are older than the column know the value.
    fn missing_of_storage(&self, attribute: &PgAttribute, storage: &[&PgRelation]) -> Option<String> {
        storage.iter().find_map(|stored| self.missing_of(stored.oid, &attribute.name))
    }

    fn missing_of(&self, relation: u32, column: &str) -> Option<String> {
        let own = self.stored(relation).find(|attribute| attribute.name == column)?;
        own.missing.clone()
    }

    /// The primary key, else the NOT NULL unique index with the fewest columns.
    fn key(&self, relation: u32, attributes: &[&PgAttribute]) -> Vec<usize> {
        let own = self.uniques.get(&relation).into_iter().flatten();
        let usable = own.filter_map(|unique| Some((unique.rank, key_columns(unique, attributes)?)));
        // `min_by_key` returns the first of equals, and the indexes are ordered by name.
        let best = usable.min_by_key(|(rank, columns)| (*rank == IndexRank::Unique, columns.len()));
        best.map(|(_, columns)| columns).unwrap_or_default()
    }

    fn foreign_keys(&self, relation: u32, attributes: &[&PgAttribute]) -> (Vec<ForeignKey>, Vec<PgReference>) {
        let own = self.references.get(&relation).into_iter().flatten();
        own.filter_map(|reference| self.foreign_key(reference, attributes)).unzip()
    }

    /// None if one of its columns is not read or its parent is unknown.
    fn foreign_key(
        &self,
        reference: &CatalogReference,
        attributes: &[&PgAttribute],
    ) -> Option<(ForeignKey, PgReference)> {
        let parent = self.relation(reference.parent)?;
        let parent_columns = self.parent_columns(reference)?;
        let foreign_key = ForeignKey {
            columns: positions(&reference.columns, attributes)?,
            parent: name_of(self.root_of(parent)),
            parent_columns: parent_columns.iter().map(|attribute| attribute.name.clone()).collect(),
            strength: strength(&reference.on_delete),
            parent_values: Vec::new(),
        };
        Some((foreign_key, self.pg_reference(reference.oid, parent, &parent_columns)))
    }

    /// Rows of a leaf belong to its root.
    fn root_of<'a>(&'a self, relation: &'a PgRelation) -> &'a PgRelation {
        relation.root.and_then(|root| self.relation(root)).unwrap_or(relation)
    }

    fn pg_reference(&self, oid: u32, parent: &PgRelation, columns: &[&PgAttribute]) -> PgReference {
        PgReference {
            oid,
            parent: self.readable_parent(parent),
            columns: columns.iter().map(|attribute| self.column(attribute, &[])).collect(),
        }
    }

    fn parent_columns(&self, reference: &CatalogReference) -> Option<Vec<&PgAttribute>> {
        let known = self.attributes.get(&reference.parent)?;
        let find = |number: &u32| known.iter().find(|attribute| attribute.number == *number);
        reference.parent_columns.iter().map(find).collect()
    }

    /// A parent whose rows can all be read. Neither row security nor an unlocked or unread relation may be involved.
    fn readable_parent(&self, relation: &PgRelation) -> Option<Parent> {
        match relation.kind {
            RelationKind::Ordinary if self.is_unrestricted(relation) => {
                Some(Parent::Unpartitioned(format!("ONLY {}", sql_name(relation))))
            }
            RelationKind::Partitioned if self.is_whole_tree_unrestricted(relation) => {
                Some(Parent::Partitioned(sql_name(relation)))
            }
            _ => None,
        }
    }

    fn is_unrestricted(&self, relation: &PgRelation) -> bool {
        relation.obstacle.is_none() && self.is_read(relation)
    }

    fn is_whole_tree_unrestricted(&self, relation: &PgRelation) -> bool {
        let root = relation.root.unwrap_or(relation.oid);
        self.relation(root).into_iter().chain(self.below(root)).all(|other| self.is_unrestricted(other))
    }
}

fn may_be_read(relation: &PgRelation) -> bool {
    match relation.kind {
        RelationKind::Ordinary => relation.obstacle.is_none(),
        // Row security or UNLOGGED on a root does not affect its leaves. Without the privilege to read the root, its
        // definition is not in the dump.
        RelationKind::Partitioned => !matches!(relation.obstacle, Some(ReadObstacle::NoRight | ReadObstacle::Unnamed)),
        RelationKind::Foreign => false,
    }
}

/// Positions of relations by OID, to find them without a search.
struct RelationPositions {
    by_oid: HashMap<u32, usize>,
    by_root: HashMap<u32, Vec<usize>>,
}

impl RelationPositions {
    fn of(relations: &[PgRelation]) -> Self {
        let mut positions = Self { by_oid: HashMap::with_capacity(relations.len()), by_root: HashMap::new() };
        for (at, relation) in relations.iter().enumerate() {
            positions.by_oid.insert(relation.oid, at);
            if let Some(root) = relation.root {
                positions.by_root.entry(root).or_default().push(at);
            }
        }
        positions
    }
}

/// Groups facts by the relation that they are about. Each group keeps its order.
fn by_relation<T>(facts: Vec<T>, relation: impl Fn(&T) -> u32) -> BTreeMap<u32, Vec<T>> {
    let mut by_relation: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for fact in facts {
        by_relation.entry(relation(&fact)).or_default().push(fact);
    }
    by_relation
}

/// None if one of the columns may be NULL or is not read.
fn key_columns(unique: &UniqueIndex, attributes: &[&PgAttribute]) -> Option<Vec<usize>> {
    let columns = positions(&unique.columns, attributes)?;
    let is_filled = columns.iter().all(|&at| attributes[at].nulls == Nulls::Forbidden);
    is_filled.then_some(columns)
}

/// The condition that rows must meet to belong to the user, if not all rows do.
fn row_condition(extension: &ExtensionMembership) -> Option<String> {
    let ExtensionMembership::Configuration { condition } = extension else { return None };
    Some(condition_of(condition)).filter(|text| !text.is_empty())
}

/// Extensions store the condition with its WHERE keyword.
fn condition_of(stored: &str) -> String {
    let stored = stored.trim();
    match stored.get(..5) {
        Some(word) if word.eq_ignore_ascii_case("where") => stored[5..].trim().to_owned(),
        _ => stored.to_owned(),
    }
}

/// `SET NULL (column)` also keeps the row, and a key with one NULL column refers to nothing.
fn strength(on_delete: &str) -> Strength {
    match on_delete {
        "n" | "d" => Strength::Weak,
        _ => Strength::Owning,
    }
}

/// None if one of the columns is not read.
fn positions(numbers: &[u32], attributes: &[&PgAttribute]) -> Option<Vec<usize>> {
    numbers.iter().map(|number| attributes.iter().position(|attribute| attribute.number == *number)).collect()
}

fn contract_column(attribute: &PgAttribute) -> Column {
    plain_column(&attribute.name, attribute.number)
}

fn rows_estimate(storage: &[&PgRelation], kind: RelationKind) -> Option<u64> {
    let known: Option<Vec<u64>> = storage.iter().map(|stored| stored.rows_estimate).collect();
    match kind {
        RelationKind::Partitioned if storage.is_empty() => Some(0),
        _ => known.map(|known| known.iter().sum()),
    }
}

fn table_relation(relation: &PgRelation) -> TableRelation {
    TableRelation {
        oid: relation.oid,
        name: name_of(relation),
        sql_name: sql_name(relation),
        access_method: relation.access_method.clone().unwrap_or_default(),
        pages: relation.pages,
    }
}

#[cfg(test)]
mod tests {
    use super::condition_of;

    #[test]
    fn the_where_of_an_extension_condition_is_removed() {
        assert_eq!(condition_of("WHERE a > 1"), "a > 1");
        assert_eq!(condition_of(" where\n NOT standard_entry"), "NOT standard_entry");
        assert_eq!((condition_of(""), condition_of("é > 1")), (String::new(), "é > 1".to_owned()));
    }
}
