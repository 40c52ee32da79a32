//! Infers which tables' rows are the owners, and by which foreign keys every other row finds its owner. Placement
//! decides where rows are stored, never what is restored. It is inferred from the schema once and then pinned in the
//! catalog.
//!
//! A path is one foreign key: a row takes the placement of its parent row. Foreign keys of owner tables and
//! self-references are not paths. Weak foreign keys are paths only if there are no others.

use crate::engine::contract::{Strength, Table};
use crate::format::catalog::find_name;
use crate::ops::placement::table_graph::{ParentKey, TableGraph, parents_first};

/// Usual names of owner tables.
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

/// How the rows of all tables are placed. Indexes refer to the given tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub owner_tables: Vec<usize>,
    /// Why these tables were chosen, or why none was.
    pub owner_reason: String,
    /// Per table, the foreign keys that lead to the owner, best first, as positions in the table's list.
    pub paths: Vec<Vec<usize>>,
    /// All tables, parents before children.
    pub order: Vec<usize>,
}

/// Infers the mapping. `owner_tables` are the configured names, if any.
#[must_use]
pub fn infer(tables: &[Table], owner_tables: &[String]) -> Mapping {
    let graph = TableGraph::new(tables);
    let OwnerChoice { owner_tables, owner_reason } =
        if owner_tables.is_empty() { owner_by_name(tables, &graph) } else { configured_owners(tables, owner_tables) };
    let depths = graph.depths(&owner_tables);
    let order = order(tables, &graph, &depths);
    let ranks = ranks(&order);
    let choice = PathChoice { graph: &graph, depths: &depths, ranks: &ranks };
    let paths = (0..tables.len()).map(|table| choice.paths(table)).collect();
    Mapping { owner_tables, owner_reason, paths, order }
}

/// The owner tables and the reason for them.
struct OwnerChoice {
    owner_tables: Vec<usize>,
    owner_reason: String,
}

fn configured_owners(tables: &[Table], names: &[String]) -> OwnerChoice {
    let owner_tables: Vec<usize> = names.iter().filter_map(|name| find_table(tables, name)).collect();
    let owner_reason = match names.iter().find(|name| find_table(tables, name).is_none()) {
        None => "named in the configuration".to_owned(),
        Some(name) => format!("the configuration names {name}, which does not exist"),
    };
    OwnerChoice { owner_tables, owner_reason }
}

/// The table that the configuration means by `name`.
pub fn find_table(tables: &[Table], name: &str) -> Option<usize> {
    find_name(tables.iter().map(|table| table.name.as_str()), name)
}

/// Of the tables with a usual name and a key, the one to which most tables lead. Of several, the one with the most
/// usual name.
fn owner_by_name(tables: &[Table], graph: &TableGraph) -> OwnerChoice {
    match best_by_name(tables, graph) {
        Some(at) => OwnerChoice { owner_tables: vec![at], owner_reason: name_reason(graph.reach(at) - 1) },
        None => {
            let owner_reason = "no table has a usual name for an owner table; name one with owner_table".to_owned();
            OwnerChoice { owner_tables: Vec::new(), owner_reason }
        }
    }
}

fn name_reason(others: usize) -> String {
    match others {
        1 => "by its name; 1 table leads to it".to_owned(),
        _ => format!("by its name; {others} tables lead to it"),
    }
}

fn best_by_name(tables: &[Table], graph: &TableGraph) -> Option<usize> {
    let candidates = (0..tables.len()).filter_map(|at| Some((at, name_rank(&tables[at])?)));
    let best = candidates.max_by_key(|&(at, rank)| (graph.reach(at), usize::MAX - rank));
    best.map(|(at, _)| at)
}

/// How usual a name is for an owner table, the most usual first. None if it is unusual or the table has no key.
fn name_rank(table: &Table) -> Option<usize> {
    if table.key.is_empty() {
        return None;
    }
    let bare = table.name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    OWNER_NAMES.iter().position(|name| *name == bare)
}

/// The position of each table in the order.
fn ranks(order: &[usize]) -> Vec<usize> {
    let mut ranks = vec![0; order.len()];
    for (rank, &table) in order.iter().enumerate() {
        ranks[table] = rank;
    }
    ranks
}

/// What decides which foreign keys are paths.
struct PathChoice<'a> {
    graph: &'a TableGraph,
    /// See [`TableGraph::depths`].
    depths: &'a [Option<usize>],
    /// Positions in the order.
    ranks: &'a [usize],
}

/// A foreign key that may be a path. The best one sorts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PathCandidate {
    is_weak: bool,
    depth: usize,
    key: usize,
}

impl PathChoice<'_> {
    /// The foreign keys of a table that lead to the owner, best first. Weak ones are used only if there are no others.
    fn paths(&self, child: usize) -> Vec<usize> {
        if self.depths[child].is_none_or(|depth| depth == 0) {
            return Vec::new();
        }
        let keys = self.graph.keys(child).iter();
        let mut candidates: Vec<PathCandidate> = keys.filter_map(|key| self.candidate(child, key)).collect();
        candidates.sort_unstable();
        keep_strongest(&mut candidates);
        candidates.into_iter().map(|candidate| candidate.key).collect()
    }

    fn candidate(&self, child: usize, key: &ParentKey) -> Option<PathCandidate> {
        let depth = self.depths[key.parent]?;
        if self.ranks[key.parent] >= self.ranks[child] {
            return None;
        }
        Some(PathCandidate { is_weak: key.strength == Strength::Weak, depth, key: key.key })
    }
}

/// Drops weak keys if there are others.
fn keep_strongest(candidates: &mut Vec<PathCandidate>) {
    let is_weak = candidates.first().is_some_and(|best| best.is_weak);
    candidates.retain(|candidate| candidate.is_weak == is_weak);
}

/// Tables by depth, then parents of equal depth before children, then by name.
fn order(tables: &[Table], graph: &TableGraph, depths: &[Option<usize>]) -> Vec<usize> {
    let parents: Vec<Vec<usize>> =
        (0..tables.len()).map(|table| parents_of_equal_depth(graph, depths, table)).collect();
    parents_first(&by_depth_and_name(tables, depths), &parents)
}

/// The parents to which owning keys lead.
fn parents_of_equal_depth(graph: &TableGraph, depths: &[Option<usize>], table: usize) -> Vec<usize> {
    let owning = graph.keys(table).iter().filter(|key| key.strength == Strength::Owning);
    owning.map(|key| key.parent).filter(|&parent| depths[parent] == depths[table]).collect()
}

fn by_depth_and_name(tables: &[Table], depth: &[Option<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|&table| (depth[table].unwrap_or(usize::MAX), &tables[table].name));
    order
}

#[cfg(test)]
mod tests {
    use super::infer;
    use crate::engine::contract::{Affinity, Column, ForeignKey, Strength, Table};
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::key::Fold;

    fn table(name: &str, keys: &[(&str, Strength)]) -> Table {
        let column = |name: &str| Column {
            name: name.into(),
            position: 0,
            missing: OwnedCell::new(&Cell::Null),
            hidden: false,
            fold: Fold::Exact,
            affinity: Affinity::None,
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
                parent_values: Vec::new(),
            });
        }
        let name = name.to_owned();
        let key = vec![0];
        Table { name, oid: None, columns, key, foreign_keys, rows_estimate: None, feed_hint: None }
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
        let mapping = infer(&tables, &[]);
        let name = |at: usize| tables[at].name.as_str();
        assert_eq!(mapping.owner_tables.iter().map(|&at| name(at)).collect::<Vec<_>>(), ["users"]);
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
        let mapping = infer(&tables, &[]);
        assert!(mapping.owner_tables.is_empty());
        assert!(mapping.paths.iter().all(Vec::is_empty));
        assert_eq!(infer(&tables, &["a".to_owned()]).paths[1], [0]);
    }

    #[test]
    fn rows_may_have_owners_of_several_tables() {
        use Strength::Owning;
        let tables = [
            table("users", &[("orgs", Owning)]),
            table("orgs", &[]),
            table("bills", &[("orgs", Owning)]),
            table("files", &[("users", Owning), ("orgs", Owning)]),
        ];
        let mapping = infer(&tables, &["orgs".to_owned(), "users".to_owned()]);
        assert_eq!((mapping.owner_tables, mapping.owner_reason.as_str()), (vec![1, 0], "named in the configuration"));
        assert_eq!(mapping.paths, [vec![], vec![], vec![0], vec![0, 1]]);
        let missing = infer(&tables, &["orgs".to_owned(), "teams".to_owned()]);
        assert_eq!(missing.owner_tables, [1]);
        assert_eq!(missing.owner_reason, "the configuration names teams, which does not exist");
    }

    /// With a search for each table, this takes minutes.
    #[test]
    fn many_tenants_are_mapped_at_a_cost_per_table() {
        let mut tables = Vec::new();
        for tenant in 0..8_000 {
            let users = format!("t{tenant}.users");
            let calendars = format!("t{tenant}.calendars");
            tables.push(table(&format!("t{tenant}.events"), &[(&calendars, Strength::Owning)]));
            tables.push(table(&calendars, &[(&users, Strength::Owning)]));
            tables.push(table(&format!("t{tenant}.badges"), &[(&calendars, Strength::Weak)]));
            tables.push(table(&users, &[]));
        }
        let mapping = infer(&tables, &[]);
        assert_eq!(mapping.owner_tables, [tables.len() - 1], "of equals, the last");
        assert!(mapping.owner_reason.contains("3 tables lead to it"), "{}", mapping.owner_reason);
        assert_eq!(mapping.paths.iter().filter(|paths| !paths.is_empty()).count(), 3);
        assert_eq!(mapping.order.len(), tables.len());
    }

    /// Depths of tables that only weak keys connect depend on the order of the tables.
    #[test]
    fn weak_keys_are_followed_in_the_order_of_the_tables() {
        use Strength::{Owning, Weak};
        let tables = [
            table("far", &[("middle", Weak), ("near", Weak)]),
            table("middle", &[("near", Weak)]),
            table("near", &[("users", Weak)]),
            table("last", &[("middle", Weak), ("near", Weak)]),
            table("users", &[("far", Owning)]),
        ];
        let graph = super::TableGraph::new(&tables);
        assert_eq!(graph.depths(&[4]), [Some(2), Some(2), Some(1), Some(2), Some(0)]);
        assert_eq!(graph.reach(4), 5);
    }
}
