//! Parent values: columns that the server adds to a child's row where only the server can tell whether a child's value
//! equals its parent's. The row is then joined by the bytes of the parent's own value.
//!
//! Each is a scalar subquery, so it neither adds nor removes rows, whatever state the parent and its index are in.

use std::collections::HashMap;

use crate::engine::contract::ForeignKey;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog_queries::{KeyComparison, comparisons};
use crate::engine::postgres::schema::table::PgReference;
use crate::engine::postgres::schema::table::{Parent, PgColumn, PgTable};
use crate::engine::postgres::value::column_type::{ColumnType, Equality, FormatPreference, PgTypes};

/// The parent values of a foreign key: the server looks them up.
#[derive(Clone, Debug)]
pub(super) struct ParentValues {
    pub(super) parent: Parent,
    pairs: Vec<ColumnPair>,
}

/// A column of a foreign key and the parent's column that it references.
#[derive(Clone, Debug)]
struct ColumnPair {
    child: KeyColumn,
    parent: KeyColumn,
    comparison: KeyComparison,
    equality: Equality,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    /// Position in the table for the child's column, in the key for the parent's.
    position: usize,
    name: String,
    kind: ColumnType,
}

/// A parent's value, selected as one more cell of a child's row.
pub(super) struct ParentValue<'a> {
    key: &'a ParentValues,
    pair: &'a ColumnPair,
}

/// The parent values of a table, by the position of their foreign key in it.
pub(super) type ParentValuesByKey = HashMap<usize, ParentValues>;

/// A foreign key that needs parent values, before we know how the server compares its columns.
struct Candidate {
    table: usize,
    foreign_key: usize,
    oid: u32,
    parent: Parent,
    columns: Vec<CandidateColumn>,
}

struct CandidateColumn {
    child: KeyColumn,
    parent: KeyColumn,
    equality: Equality,
}

/// Finds the foreign keys that only the server can follow, and marks them in their tables. Keyed by the table's
/// position.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn find_parent_values(
    client: &Client,
    tables: &mut [PgTable],
    types: &PgTypes,
) -> Result<HashMap<usize, ParentValuesByKey>, QueryError> {
    let candidates = candidates(tables, types);
    let mut found: HashMap<usize, ParentValuesByKey> = HashMap::new();
    if candidates.is_empty() {
        return Ok(found);
    }
    let mut comparisons = comparisons_by_key(client, &candidates)?;
    for candidate in candidates {
        let table = candidate.table;
        let foreign_key = candidate.foreign_key;
        let comparisons = comparisons.remove(&candidate.oid).unwrap_or_default();
        if let Some(values) = candidate.into_parent_values(comparisons) {
            tables[table].described.foreign_keys[foreign_key].parent_values = values.positions();
            found.entry(table).or_default().insert(foreign_key, values);
        }
    }
    Ok(found)
}

fn candidates(tables: &[PgTable], types: &PgTypes) -> Vec<Candidate> {
    let all = tables.iter().enumerate().flat_map(|(at, table)| candidates_of(at, table, types));
    all.collect()
}

fn candidates_of(at: usize, table: &PgTable, types: &PgTypes) -> Vec<Candidate> {
    let keys = 0..table.references.len();
    keys.filter_map(|foreign_key| candidate(at, table, foreign_key, types)).collect()
}

/// None if the columns can be compared by bytes, if the parent cannot be queried, or if the parent is the table itself.
fn candidate(at: usize, table: &PgTable, foreign_key: usize, types: &PgTypes) -> Option<Candidate> {
    let reference = &table.references[foreign_key];
    let parent = reference.parent.clone()?;
    if table.described.foreign_keys[foreign_key].parent == table.described.name {
        return None;
    }
    let columns = candidate_columns(table, foreign_key, types)?;
    let needs_parent_values = columns.iter().any(|column| column.equality == Equality::Server);
    needs_parent_values.then_some(Candidate { table: at, foreign_key, oid: reference.oid, parent, columns })
}

/// The columns of a foreign key with their parents. None if the type of one is unknown.
fn candidate_columns(table: &PgTable, foreign_key: usize, types: &PgTypes) -> Option<Vec<CandidateColumn>> {
    let key = &table.described.foreign_keys[foreign_key];
    let reference = &table.references[foreign_key];
    (0..key.columns.len()).map(|place| candidate_column(table, key, reference, place, types)).collect()
}

/// `place` is the column's position in the key.
fn candidate_column(
    table: &PgTable,
    key: &ForeignKey,
    reference: &PgReference,
    place: usize,
    types: &PgTypes,
) -> Option<CandidateColumn> {
    let at = key.columns[place];
    let child = KeyColumn::new(at, &table.described.columns[at].name, &table.columns[at], types)?;
    let parent_column = &reference.columns[place];
    let parent = KeyColumn::new(place, &key.parent_columns[place], parent_column, types)?;
    let equality = parent.kind.key_equality(parent_column.collation, &child.kind);
    Some(CandidateColumn { child, parent, equality })
}

/// How the server compares the columns of each foreign key, by the key's OID.
fn comparisons_by_key(
    client: &Client,
    candidates: &[Candidate],
) -> Result<HashMap<u32, Vec<KeyComparison>>, QueryError> {
    let oids: Vec<u32> = candidates.iter().map(|candidate| candidate.oid).collect();
    let mut by_key: HashMap<u32, Vec<KeyComparison>> = HashMap::new();
    for (oid, comparison) in comparisons(client, &oids)? {
        by_key.entry(oid).or_default().push(comparison);
    }
    Ok(by_key)
}

impl Candidate {
    /// None unless the server told how it compares every column.
    fn into_parent_values(self, comparisons: Vec<KeyComparison>) -> Option<ParentValues> {
        if comparisons.len() != self.columns.len() {
            return None;
        }
        let columns = self.columns.into_iter().zip(comparisons);
        let pairs = columns.map(|(column, comparison)| column.into_pair(comparison)).collect();
        Some(ParentValues { parent: self.parent, pairs })
    }
}

impl CandidateColumn {
    fn into_pair(self, comparison: KeyComparison) -> ColumnPair {
        ColumnPair { child: self.child, parent: self.parent, comparison, equality: self.equality }
    }
}

impl ParentValues {
    /// Positions within the key of the columns that only the server can compare.
    fn positions(&self) -> Vec<usize> {
        let pairs = self.pairs.iter().enumerate();
        pairs.filter(|(_, pair)| pair.has_parent_value()).map(|(position, _)| position).collect()
    }

    fn value_pairs(&self) -> impl Iterator<Item = &ColumnPair> {
        self.pairs.iter().filter(|pair| pair.has_parent_value())
    }

    /// The parent values, in the order of their cells.
    pub(super) fn values(&self) -> impl Iterator<Item = ParentValue<'_>> {
        self.value_pairs().map(|pair| ParentValue { key: self, pair })
    }

    /// Whether a row of `child` and a row of `parent` belong together.
    fn join_condition(&self, child: &str) -> String {
        let conditions: Vec<String> = self.pairs.iter().map(|pair| pair.condition(child)).collect();
        conditions.join(" AND ")
    }

    /// Only a damaged index allows several parents. Prefers one with the same text as the child's value, then orders by
    /// text so that the choice is always the same.
    fn parent_order(&self, child: &str) -> String {
        let mut differences = Vec::new();
        let mut order = Vec::new();
        for pair in self.value_pairs() {
            let child_text = pair.child.text_of(&pair.child_sql(child));
            let parent_text = pair.parent.text_of(&pair.parent_sql());
            differences.push(format!("{parent_text} OPERATOR(pg_catalog.<>) {child_text}"));
            order.push(parent_text);
        }
        format!("{}, {}", differences.join(" OR "), order.join(", "))
    }
}

impl ColumnPair {
    fn has_parent_value(&self) -> bool {
        self.equality == Equality::Server
    }

    fn child_sql(&self, child: &str) -> String {
        format!("{child}.{}", quote_identifier(&self.child.name))
    }

    fn parent_sql(&self) -> String {
        format!("parent.{}", quote_identifier(&self.parent.name))
    }

    /// Compares the two as the server does for the foreign key.
    fn condition(&self, child: &str) -> String {
        let KeyComparison { parent_cast, operator, child_cast, collate } = &self.comparison;
        let parent = self.parent_sql();
        let child = self.child_sql(child);
        format!("{parent}{parent_cast} {operator} {child}{child_cast}{collate}")
    }
}

impl KeyColumn {
    /// None if its type is unknown.
    fn new(position: usize, name: &str, column: &PgColumn, types: &PgTypes) -> Option<Self> {
        let kind = types.get(column.type_oid)?.clone();
        Some(Self { position, name: name.to_owned(), kind })
    }

    /// The value's text, for comparison by bytes.
    fn text_of(&self, sql: &str) -> String {
        format!("{} COLLATE pg_catalog.\"C\"", self.kind.select_of(sql, FormatPreference::Text))
    }
}

impl ParentValue<'_> {
    /// Position of the child's own value.
    pub(super) fn child_position(&self) -> usize {
        self.pair.child.position
    }

    /// The name for messages, and the parent's type.
    pub(super) fn column(&self) -> (String, ColumnType) {
        (format!("parent value of {}", self.pair.child.name), self.pair.parent.kind.clone())
    }

    /// The expression to select, for a statement that reads from `child` under this name (quoted and schema-qualified).
    pub(super) fn select(&self, child: &str, preference: FormatPreference) -> String {
        let value = self.pair.parent.kind.select_of(&self.pair.parent_sql(), preference);
        let parent = self.key.parent.sql();
        let condition = self.key.join_condition(child);
        let order = self.key.parent_order(child);
        format!("(SELECT {value} FROM {parent} AS parent WHERE {condition} ORDER BY {order} LIMIT 1)")
    }
}

#[cfg(test)]
mod tests {
    use super::{ColumnPair, KeyColumn, KeyComparison, ParentValue, ParentValues};
    use crate::engine::postgres::schema::table::Parent;
    use crate::engine::postgres::value::column_type::{ColumnType, Equality, FormatPreference};
    use crate::format::key::Fold;

    fn column(position: usize, name: &str, kind: ColumnType) -> KeyColumn {
        KeyColumn { position, name: name.to_owned(), kind }
    }

    fn comparison(casts: [&str; 2], operator: &str, collate: &str) -> KeyComparison {
        let [parent_cast, child_cast] = casts.map(str::to_owned);
        KeyComparison { parent_cast, operator: operator.to_owned(), child_cast, collate: collate.to_owned() }
    }

    #[test]
    fn a_parent_is_compared_as_the_foreign_key_compares_it() {
        let id = ColumnPair {
            child: column(0, "id", ColumnType::integer()),
            parent: column(0, "n", ColumnType::integer()),
            comparison: comparison(["", ""], "OPERATOR(pg_catalog.=)", ""),
            equality: Equality::Folded(Fold::Exact),
        };
        let name = ColumnPair {
            child: column(3, "na\"me", ColumnType::text()),
            parent: column(1, "name", ColumnType::citext()),
            comparison: comparison(["", "::ext.citext"], "OPERATOR(ext.=)", " COLLATE pg_catalog.\"default\""),
            equality: Equality::Server,
        };
        let key = ParentValues { parent: Parent::Unpartitioned("ONLY \"s\".\"p\"".to_owned()), pairs: vec![id, name] };
        let values: Vec<ParentValue<'_>> = key.values().collect();
        assert_eq!((key.positions(), values.len(), values[0].child_position()), (vec![1], 1, 3));
        let theirs = "pg_catalog.textin(\"ext\".\"citextout\"(parent.\"name\"))";
        let expected = format!(
            "(SELECT {theirs} FROM ONLY \"s\".\"p\" AS parent \
             WHERE parent.\"n\" OPERATOR(pg_catalog.=) \"s\".\"c\".\"id\" \
             AND parent.\"name\" OPERATOR(ext.=) \"s\".\"c\".\"na\"\"me\"::ext.citext COLLATE pg_catalog.\"default\" \
             ORDER BY {theirs} COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.<>) \
             pg_catalog.textin(\"pg_catalog\".\"textout\"(\"s\".\"c\".\"na\"\"me\")) COLLATE pg_catalog.\"C\", \
             {theirs} COLLATE pg_catalog.\"C\" LIMIT 1)"
        );
        assert_eq!(values[0].select("\"s\".\"c\"", FormatPreference::Binary), expected);
    }
}
