//! Companions: what the server adds to a child's row, so that the row is joined by its parent's own bytes where only the
//! server can tell that a value and its parent's are equal.
//!
//! Each is a scalar subquery: whatever state the parent and its index are in, it neither adds a row nor takes one away.

use std::collections::HashMap;

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog_queries::{KeyComparison, comparisons};
use crate::engine::postgres::schema::table::{Parent, PgTable};
use crate::engine::postgres::value::column_type::{ColumnType, Equality, FormatPreference, PgTypes};

/// A foreign key about which the server is asked.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) parent: Parent,
    pairs: Vec<ColumnPair>,
}

/// A column of a foreign key with its parent's.
#[derive(Clone, Debug)]
struct ColumnPair {
    own: JoinSide,
    parent: JoinSide,
    comparison: KeyComparison,
    equality: Equality,
}

#[derive(Clone, Debug)]
struct JoinSide {
    /// Position in its table's columns; the parent's is not needed.
    at: usize,
    name: String,
    kind: ColumnType,
}

/// One cell that is added to a row.
pub(crate) struct Companion<'a> {
    key: &'a Followed,
    pair: &'a ColumnPair,
}

/// Foreign keys by their place in their table.
pub(crate) type Keys = HashMap<usize, Followed>;

/// Finds the foreign keys that only the server can follow, and says so in their tables. By the position of the table.
pub(crate) fn find(
    client: &Client,
    tables: &mut [PgTable],
    types: &PgTypes,
) -> Result<HashMap<usize, Keys>, QueryError> {
    let all = tables.iter().enumerate().flat_map(|(at, of)| (0..of.references.len()).map(move |key| (at, key)));
    let hard: Vec<_> = all.filter_map(|(at, key)| Some((at, key, sides(&tables[at], key, types)?))).collect();
    if hard.is_empty() {
        return Ok(HashMap::new());
    }
    let oids: Vec<u32> = hard.iter().map(|&(at, key, _)| tables[at].references[key].oid).collect();
    let mut compared: HashMap<u32, Vec<KeyComparison>> = HashMap::new();
    for (oid, comparison) in comparisons(client, &oids)? {
        compared.entry(oid).or_default().push(comparison);
    }
    let mut found: HashMap<usize, Keys> = HashMap::new();
    for (at, key, sides) in hard {
        let reference = &tables[at].references[key];
        let how = compared.remove(&reference.oid).filter(|how| how.len() == sides.len());
        let (Some(parent), Some(how)) = (reference.parent.clone(), how) else { continue };
        let pair = |((own, parent, equality), comparison)| ColumnPair { own, parent, comparison, equality };
        let followed = Followed { parent, pairs: sides.into_iter().zip(how).map(pair).collect() };
        tables[at].table.foreign_keys[key].by_server = followed.by_server();
        found.entry(at).or_default().insert(key, followed);
    }
    Ok(found)
}

/// The columns of a foreign key with their parents. None if their bytes tell which are equal, or if the parent cannot be
/// asked, or is the table itself.
fn sides(table: &PgTable, at: usize, types: &PgTypes) -> Option<Vec<(JoinSide, JoinSide, Equality)>> {
    let (key, reference) = (&table.table.foreign_keys[at], &table.references[at]);
    reference.parent.as_ref().filter(|_| key.parent != table.table.name)?;
    let side = |at: usize, name: &str, type_oid| {
        Some(JoinSide { at, name: name.to_owned(), kind: types.get(type_oid)?.clone() })
    };
    let both = |(place, &at): (usize, &usize)| {
        let (name, parent) = (&table.table.columns[at].name, &reference.columns[place]);
        let own = side(at, name, table.columns[at].type_oid)?;
        let theirs = side(place, &key.parent_columns[place], parent.type_oid)?;
        let equality = theirs.kind.key_equality(parent.collation, &own.kind);
        Some((own, theirs, equality))
    };
    let sides: Vec<_> = key.columns.iter().enumerate().map(both).collect::<Option<_>>()?;
    sides.iter().any(|(_, _, equality)| *equality == Equality::Server).then_some(sides)
}

impl Followed {
    fn by_server(&self) -> Vec<usize> {
        (0..self.pairs.len()).filter(|&place| self.pairs[place].equality == Equality::Server).collect()
    }

    /// The cells that it adds.
    pub(crate) fn companions(&self) -> impl Iterator<Item = Companion<'_>> {
        self.pairs.iter().filter(|pair| pair.equality == Equality::Server).map(|pair| Companion { key: self, pair })
    }
}

impl Companion<'_> {
    /// Position of the child's value that it stands beside.
    pub(crate) fn of(&self) -> usize {
        self.pair.own.at
    }

    /// Its name in messages, and its type: the parent's.
    pub(crate) fn column(&self) -> (String, ColumnType) {
        (format!("{} as its parent has it", self.pair.own.name), self.pair.parent.kind.clone())
    }

    /// The expression to select, in a statement that reads `child` (quoted, with its schema) by this name.
    pub(crate) fn select(&self, child: &str, mode: FormatPreference) -> String {
        let own = |pair: &ColumnPair| format!("{child}.{}", quote_identifier(&pair.own.name));
        let theirs = |pair: &ColumnPair| format!("parent.{}", quote_identifier(&pair.parent.name));
        let meets = self.key.pairs.iter().map(|pair| {
            let KeyComparison { parent_cast, operator, child_cast, collate } = &pair.comparison;
            format!("{}{parent_cast} {operator} {}{child_cast}{collate}", theirs(pair), own(pair))
        });
        // Of several parents, which only a damaged index leaves there, the one that is written alike, else always the same.
        let bytes = |side: &JoinSide, of: &str| {
            format!("{} COLLATE pg_catalog.\"C\"", side.kind.select_of(of, FormatPreference::Text))
        };
        let asked = || self.key.companions().map(|companion| companion.pair);
        let differ = asked().map(|pair| {
            let (own, theirs) = (bytes(&pair.own, &own(pair)), bytes(&pair.parent, &theirs(pair)));
            format!("{theirs} OPERATOR(pg_catalog.<>) {own}")
        });
        let order = asked().map(|pair| bytes(&pair.parent, &theirs(pair)));
        format!(
            "(SELECT {} FROM {} AS parent WHERE {} ORDER BY {}, {} LIMIT 1)",
            self.pair.parent.kind.select_of(&theirs(self.pair), mode),
            self.key.parent.sql(),
            meets.collect::<Vec<_>>().join(" AND "),
            differ.collect::<Vec<_>>().join(" OR "),
            order.collect::<Vec<_>>().join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{ColumnPair, Companion, Followed, JoinSide, KeyComparison};
    use crate::engine::postgres::schema::table::Parent;
    use crate::engine::postgres::value::column_type::{ColumnType, Equality, FormatPreference};
    use crate::format::key::Fold;

    fn side(at: usize, name: &str, kind: ColumnType) -> JoinSide {
        JoinSide { at, name: name.to_owned(), kind }
    }

    fn comparison(casts: [&str; 2], operator: &str, collate: &str) -> KeyComparison {
        let [parent_cast, child_cast] = casts.map(str::to_owned);
        KeyComparison { parent_cast, operator: operator.to_owned(), child_cast, collate: collate.to_owned() }
    }

    #[test]
    fn the_parent_is_asked_as_its_triggers_ask_it() {
        let id = ColumnPair {
            own: side(0, "id", ColumnType::integer()),
            parent: side(0, "n", ColumnType::integer()),
            comparison: comparison(["", ""], "OPERATOR(pg_catalog.=)", ""),
            equality: Equality::Folded(Fold::Exact),
        };
        let name = ColumnPair {
            own: side(3, "na\"me", ColumnType::text()),
            parent: side(1, "name", ColumnType::citext()),
            comparison: comparison(["", "::ext.citext"], "OPERATOR(ext.=)", " COLLATE pg_catalog.\"default\""),
            equality: Equality::Server,
        };
        let key = Followed { parent: Parent::Alone("ONLY \"s\".\"p\"".to_owned()), pairs: vec![id, name] };
        let companions: Vec<Companion<'_>> = key.companions().collect();
        assert_eq!((key.by_server(), companions.len(), companions[0].of()), (vec![1], 1, 3));
        let theirs = "pg_catalog.textin(\"ext\".\"citextout\"(parent.\"name\"))";
        let expected = format!(
            "(SELECT {theirs} FROM ONLY \"s\".\"p\" AS parent \
             WHERE parent.\"n\" OPERATOR(pg_catalog.=) \"s\".\"c\".\"id\" \
             AND parent.\"name\" OPERATOR(ext.=) \"s\".\"c\".\"na\"\"me\"::ext.citext COLLATE pg_catalog.\"default\" \
             ORDER BY {theirs} COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.<>) \
             pg_catalog.textin(\"pg_catalog\".\"textout\"(\"s\".\"c\".\"na\"\"me\")) COLLATE pg_catalog.\"C\", \
             {theirs} COLLATE pg_catalog.\"C\" LIMIT 1)"
        );
        assert_eq!(companions[0].select("\"s\".\"c\"", FormatPreference::Binary), expected);
    }
}
