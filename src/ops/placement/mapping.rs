//! Infers which table's rows are the owners, and by which foreign keys every other row finds its owner. Placement
//! decides where rows are stored, never what is restored. It is inferred from the schema once and then pinned in the
//! catalog.
//!
//! A path is one foreign key: a row takes the placement of its parent row. Foreign keys of the owner table and
//! self-references are not paths. Weak foreign keys are paths only if there are no others.

use crate::engine::contract::{ForeignKey, Strength, Table};
use crate::format::catalog::find_name;

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
    pub owner_table: Option<usize>,
    /// Why this table was chosen, or why none was.
    pub owner_reason: String,
    /// Per table, the foreign keys that lead to the owner, best first, as positions in the table's list.
    pub paths: Vec<Vec<usize>>,
    /// All tables, parents before children.
    pub order: Vec<usize>,
}

/// Infers the mapping. `owner_table` is the configured name, if any.
#[must_use]
pub fn infer(tables: &[Table], owner_table: Option<&str>) -> Mapping {
    let OwnerChoice { owner_table, owner_reason } = match owner_table {
        Some(name) => configured_owner(tables, name),
        None => owner_by_name(tables),
    };
    let depths = depths(tables, owner_table);
    let order = order(tables, &depths);
    let ranks = ranks(&order);
    let graph = KeyGraph { tables, depths: &depths, ranks: &ranks };
    let paths = (0..tables.len()).map(|table| graph.paths(table)).collect();
    Mapping { owner_table, owner_reason, paths, order }
}

/// The owner table and the reason for it.
struct OwnerChoice {
    owner_table: Option<usize>,
    owner_reason: String,
}

fn configured_owner(tables: &[Table], name: &str) -> OwnerChoice {
    let owner_table = find_name(tables.iter().map(|table| table.name.as_str()), name);
    let owner_reason = match owner_table {
        Some(_) => "named in the configuration".to_owned(),
        None => format!("the configuration names {name}, which does not exist"),
    };
    OwnerChoice { owner_table, owner_reason }
}

/// Of the tables with a usual name and a key, the one to which most tables lead. Of several, the one with the most
/// usual name.
fn owner_by_name(tables: &[Table]) -> OwnerChoice {
    match best_by_name(tables) {
        Some(at) => OwnerChoice { owner_table: Some(at), owner_reason: name_reason(reach(tables, at) - 1) },
        None => {
            let owner_reason = "no table has a usual name for an owner table; name one with owner_table".to_owned();
            OwnerChoice { owner_table: None, owner_reason }
        }
    }
}

fn name_reason(others: usize) -> String {
    match others {
        1 => "by its name; 1 table leads to it".to_owned(),
        _ => format!("by its name; {others} tables lead to it"),
    }
}

fn best_by_name(tables: &[Table]) -> Option<usize> {
    let candidates = (0..tables.len()).filter_map(|at| Some((at, name_rank(&tables[at])?)));
    let best = candidates.max_by_key(|&(at, rank)| (reach(tables, at), usize::MAX - rank));
    best.map(|(at, _)| at)
}

/// How many tables lead to this one, including itself.
fn reach(tables: &[Table], owner: usize) -> usize {
    depths(tables, Some(owner)).iter().flatten().count()
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

/// Tables and how they lead to the owner.
struct KeyGraph<'a> {
    tables: &'a [Table],
    /// See [`depths`].
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

impl KeyGraph<'_> {
    /// The foreign keys of a table that lead to the owner, best first. Weak ones are used only if there are no others.
    fn paths(&self, child: usize) -> Vec<usize> {
        if self.depths[child].is_none_or(|depth| depth == 0) {
            return Vec::new();
        }
        let mut candidates = self.candidates(child);
        candidates.sort_unstable();
        keep_strongest(&mut candidates);
        candidates.into_iter().map(|candidate| candidate.key).collect()
    }

    fn candidates(&self, child: usize) -> Vec<PathCandidate> {
        let parents = keys(self.tables, child);
        parents.filter_map(|(key, parent)| self.candidate(child, key, parent)).collect()
    }

    fn candidate(&self, child: usize, key: usize, parent: usize) -> Option<PathCandidate> {
        let depth = self.depths[parent]?;
        if self.ranks[parent] >= self.ranks[child] {
            return None;
        }
        let is_weak = !is_owning(self.tables, child, key);
        Some(PathCandidate { is_weak, depth, key })
    }
}

/// Drops weak keys if there are others.
fn keep_strongest(candidates: &mut Vec<PathCandidate>) {
    let is_weak = candidates.first().is_some_and(|best| best.is_weak);
    candidates.retain(|candidate| candidate.is_weak == is_weak);
}

/// Foreign keys of a table with their parents, without self-references.
fn keys(tables: &[Table], child: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    let foreign_keys = tables[child].foreign_keys.iter().enumerate();
    foreign_keys.filter_map(move |(key, foreign)| Some((key, parent(tables, child, foreign)?)))
}

fn is_owning(tables: &[Table], child: usize, key: usize) -> bool {
    tables[child].foreign_keys[key].strength == Strength::Owning
}

/// The parent table of a foreign key, if it is another table and has the columns.
fn parent(tables: &[Table], child: usize, foreign: &ForeignKey) -> Option<usize> {
    let parent = tables.iter().position(|table| table.name == foreign.parent)?;
    let has_columns = foreign.parent_columns.iter().all(|name| has_column(&tables[parent], name));
    (parent != child && has_columns).then_some(parent)
}

fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == name)
}

/// The smallest number of foreign keys from each table to the owner. Weak keys are used only where owning keys do not
/// lead to the owner.
fn depths(tables: &[Table], owner: Option<usize>) -> Vec<Option<usize>> {
    let mut depths = vec![None; tables.len()];
    let Some(owner) = owner else { return depths };
    depths[owner] = Some(0);
    while deepen_by_owning_keys(tables, &mut depths) {}
    while deepen_by_any_key(tables, &mut depths) {}
    depths
}

/// Shortens depths by owning keys. Returns whether any became shorter.
fn deepen_by_owning_keys(tables: &[Table], depths: &mut [Option<usize>]) -> bool {
    let mut is_changed = false;
    for child in 0..tables.len() {
        let depth = depth_by_owning_keys(tables, depths, child);
        is_changed |= shorten(&mut depths[child], depth);
    }
    is_changed
}

/// Takes a depth that is smaller than the known one. Returns whether it is.
fn shorten(known: &mut Option<usize>, depth: Option<usize>) -> bool {
    let is_less = depth.is_some_and(|depth| known.is_none_or(|known| known > depth));
    if is_less {
        *known = depth;
    }
    is_less
}

/// Finds depths of tables that have none, by weak keys too. Returns whether any was found.
fn deepen_by_any_key(tables: &[Table], depths: &mut [Option<usize>]) -> bool {
    let mut is_changed = false;
    for child in 0..tables.len() {
        if depths[child].is_some() {
            continue;
        }
        depths[child] = depth_by_any_key(tables, depths, child);
        is_changed |= depths[child].is_some();
    }
    is_changed
}

/// One more than the smallest depth of the parents by owning keys.
fn depth_by_owning_keys(tables: &[Table], depths: &[Option<usize>], child: usize) -> Option<usize> {
    let parents = keys(tables, child).filter(|&(key, _)| is_owning(tables, child, key));
    below_highest(depths, parents.map(|(_, parent)| parent))
}

/// One more than the smallest depth of all parents.
fn depth_by_any_key(tables: &[Table], depths: &[Option<usize>], child: usize) -> Option<usize> {
    below_highest(depths, keys(tables, child).map(|(_, parent)| parent))
}

fn below_highest(depths: &[Option<usize>], parents: impl Iterator<Item = usize>) -> Option<usize> {
    Some(parents.filter_map(|parent| depths[parent]).min()? + 1)
}

/// Tables by depth, then parents of equal depth before children, then by name.
fn order(tables: &[Table], depth: &[Option<usize>]) -> Vec<usize> {
    let begun = vec![false; tables.len()];
    let mut walk = KeyOrder { tables, depth, begun, order: Vec::with_capacity(tables.len()) };
    for table in by_depth_and_name(tables, depth) {
        walk.visit(table);
    }
    walk.order
}

fn by_depth_and_name(tables: &[Table], depth: &[Option<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.sort_by_key(|&table| (depth[table].unwrap_or(usize::MAX), &tables[table].name));
    order
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
        for (key, parent) in keys(self.tables, table) {
            if self.leads_to_equal_depth(table, key, parent) {
                self.visit(parent);
            }
        }
        self.order.push(table);
    }

    /// Whether an owning key leads to a parent of equal depth.
    fn leads_to_equal_depth(&self, table: usize, key: usize, parent: usize) -> bool {
        is_owning(self.tables, table, key) && self.depth[parent] == self.depth[table]
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
