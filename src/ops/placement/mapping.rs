//! Which table's rows are the owners, and by which foreign keys every other row finds its own
//! (design: placement, never truth). Inferred from the schema once, then pinned in the catalog.
//!
//! A path is one foreign key: the row takes the placement of its parent row. Foreign keys of the
//! owner table, self-references and, where there is anything better, weak ones are no paths.

use crate::engine::contract::{Strength, Table};
use crate::format::catalog::position_meant;

/// Names that tables of owners usually have.
const OWNER_NAMES: [&str; 12] = [
    "users",
    "user",
    "accounts",
    "account",
    "customers",
    "customer",
    "members",
    "member",
    "principals",
    "principal",
    "tenants",
    "tenant",
];

/// How the rows of all tables are placed; indexes count in the tables given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub owner_table: Option<usize>,
    /// Why that one, or why none.
    pub owner_reason: String,
    /// Per table the foreign keys that lead to the owner, best first, as positions in its list.
    pub paths: Vec<Vec<usize>>,
    /// All tables, parents before children.
    pub order: Vec<usize>,
}

/// Infers the mapping. `owner_table` is what the configuration says, if anything.
#[must_use]
pub fn infer(tables: &[Table], owner_table: Option<&str>) -> Mapping {
    let (owner_table, owner_reason) = owner(tables, owner_table);
    let depth = depths(tables, owner_table);
    let order = order(tables, &depth);
    let rank: Vec<usize> = {
        let mut rank = vec![0; tables.len()];
        order.iter().enumerate().for_each(|(at, &table)| rank[table] = at);
        rank
    };
    let paths = (0..tables.len())
        .map(|child| {
            if depth[child].is_none_or(|depth| depth == 0) {
                return Vec::new();
            }
            let earlier = |parent: usize| depth[parent].is_some() && rank[parent] < rank[child];
            let mut candidates: Vec<(Strength, usize, usize)> = keys(tables, child)
                .filter(|&(_, parent)| earlier(parent))
                .map(|(key, parent)| {
                    (tables[child].foreign_keys[key].strength, depth[parent].unwrap_or(usize::MAX), key)
                })
                .collect();
            candidates.sort_by_key(|&(strength, depth, key)| (strength == Strength::Weak, depth, key));
            let best = candidates.first().map(|candidate| candidate.0);
            candidates.iter().filter(|candidate| Some(candidate.0) == best).map(|candidate| candidate.2).collect()
        })
        .collect();
    Mapping { owner_table, owner_reason, paths, order }
}

fn owner(tables: &[Table], configured: Option<&str>) -> (Option<usize>, String) {
    if let Some(name) = configured {
        let found = position_meant(tables.iter().map(|table| table.name.as_str()), name);
        let reason = match found {
            Some(_) => "named in the configuration".to_owned(),
            None => format!("the configuration names {name}, which is not there"),
        };
        return (found, reason);
    }
    let candidates = tables.iter().enumerate().filter_map(|(at, table)| {
        let last = table.name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let rank = OWNER_NAMES.iter().position(|name| *name == last)?;
        (!table.key.is_empty()).then_some((at, rank))
    });
    let reach = |owner: usize| depths(tables, Some(owner)).iter().flatten().count();
    match candidates.max_by_key(|&(at, rank)| (reach(at), usize::MAX - rank)) {
        Some((at, _)) => (Some(at), format!("by its name; {} tables lead to it", reach(at) - 1)),
        None => (None, "no table has a usual name for owners; name one with owner_table".to_owned()),
    }
}

/// Foreign keys of a table with their parents, self-references left out.
fn keys(tables: &[Table], child: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    tables[child].foreign_keys.iter().enumerate().filter_map(move |(key, foreign)| {
        let parent = tables.iter().position(|table| table.name == foreign.parent)?;
        let known = foreign.parent_columns.iter().all(|name| tables[parent].columns.iter().any(|c| c.name == *name));
        (parent != child && known).then_some((key, parent))
    })
}

/// Fewest foreign keys from each table to the owner; owning ones first, weak ones where nothing else leads there.
fn depths(tables: &[Table], owner: Option<usize>) -> Vec<Option<usize>> {
    let mut depth = vec![None; tables.len()];
    let Some(owner) = owner else { return depth };
    depth[owner] = Some(0);
    for weak in [false, true] {
        loop {
            let mut changed = false;
            for child in 0..tables.len() {
                let reached = keys(tables, child)
                    .filter(|&(key, _)| weak || tables[child].foreign_keys[key].strength == Strength::Owning)
                    .filter_map(|(_, parent)| depth[parent])
                    .min();
                if let Some(parent) = reached
                    && depth[child].is_none_or(|own| !weak && own > parent + 1)
                {
                    depth[child] = Some(parent + 1);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
    depth
}

/// Tables by depth, then parents of equal depth before children, then by name.
fn order(tables: &[Table], depth: &[Option<usize>]) -> Vec<usize> {
    let mut by_name: Vec<usize> = (0..tables.len()).collect();
    by_name.sort_by_key(|&table| (depth[table].unwrap_or(usize::MAX), &tables[table].name));
    let begun = vec![false; tables.len()];
    let mut walk = KeyOrder { tables, depth, begun, order: Vec::with_capacity(tables.len()) };
    for &table in &by_name {
        walk.visit(table);
    }
    walk.order
}

/// A walk up the owning keys between tables of equal depth.
struct KeyOrder<'a> {
    tables: &'a [Table],
    depth: &'a [Option<usize>],
    begun: Vec<bool>,
    order: Vec<usize>,
}

impl KeyOrder<'_> {
    fn visit(&mut self, table: usize) {
        if std::mem::replace(&mut self.begun[table], true) {
            return;
        }
        let (tables, depth) = (self.tables, self.depth);
        for (key, parent) in keys(tables, table) {
            if tables[table].foreign_keys[key].strength == Strength::Owning && depth[parent] == depth[table] {
                self.visit(parent);
            }
        }
        self.order.push(table);
    }
}

#[cfg(test)]
mod tests {
    use super::infer;
    use crate::engine::contract::{Column, ForeignKey, Strength, Table};
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::key::Fold;

    fn table(name: &str, keys: &[(&str, Strength)]) -> Table {
        let column = |name: &str| Column {
            name: name.to_owned(),
            position: 0,
            missing: OwnedCell::new(&Cell::Null),
            hidden: false,
            fold: Fold::Exact,
        };
        let mut columns = vec![column("id")];
        let mut foreign_keys = Vec::new();
        for (parent, strength) in keys {
            columns.push(column(&format!("{parent}_id")));
            foreign_keys.push(ForeignKey {
                columns: vec![columns.len() - 1],
                parent: (*parent).to_owned(),
                parent_columns: vec!["id".to_owned()],
                strength: *strength,
                by_server: Vec::new(),
            });
        }
        let (name, oid, key) = (name.to_owned(), None, vec![0]);
        Table { name, oid, columns, key, foreign_keys, rows_estimate: None, feed_hint: None }
    }

    #[test]
    fn a_sync_service_is_mapped_as_a_person_would() {
        use Strength::{Owning, Weak};
        let tables = [
            table("album_photos", &[("albums", Owning), ("photos", Owning)]),
            table("albums", &[("photos", Weak), ("users", Owning)]),
            table("calendar_shares", &[("calendars", Owning), ("users", Owning)]),
            table("calendars", &[("users", Owning)]),
            table("photos", &[("users", Owning)]),
            table("tasks", &[("users", Owning), ("tasks", Weak)]),
            table("timezones", &[]),
            table("users", &[("photos", Weak), ("timezones", Owning)]),
            table("badges", &[("photos", Weak)]),
        ];
        let mapping = infer(&tables, None);
        let name = |at: usize| tables[at].name.as_str();
        assert_eq!(mapping.owner_table.map(name), Some("users"));
        let paths = |table: &str| -> Vec<&str> {
            let at = tables.iter().position(|t| t.name == table).expect("a table");
            mapping.paths[at].iter().map(|&key| tables[at].foreign_keys[key].parent.as_str()).collect()
        };
        assert_eq!(paths("album_photos"), ["albums", "photos"]);
        assert_eq!(paths("albums"), ["users"]);
        assert_eq!(paths("calendar_shares"), ["users", "calendars"]);
        assert_eq!(paths("tasks"), ["users"]);
        assert_eq!(paths("badges"), ["photos"]);
        assert!(paths("users").is_empty() && paths("timezones").is_empty());
        let rank = |table: &str| mapping.order.iter().position(|&at| name(at) == table);
        assert!(rank("calendars") < rank("calendar_shares") && rank("users") < rank("albums"));
    }

    #[test]
    fn without_owners_nothing_is_owned() {
        let tables = [table("a", &[]), table("b", &[("a", Strength::Owning)])];
        let mapping = infer(&tables, None);
        assert_eq!(mapping.owner_table, None);
        assert!(mapping.paths.iter().all(Vec::is_empty));
        assert_eq!(infer(&tables, Some("a")).paths[1], [0]);
    }
}
