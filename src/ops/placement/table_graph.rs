//! The foreign keys between tables as a graph. Built once, so that placement costs as much as there are tables and keys.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use crate::engine::contract::{ForeignKey, Strength, Table};

/// A foreign key of a table to another table.
#[derive(Clone, Copy, Debug)]
pub struct ParentKey {
    /// Position among the table's foreign keys.
    pub key: usize,
    pub parent: usize,
    pub strength: Strength,
}

/// A foreign key of another table to a table.
#[derive(Clone, Copy, Debug)]
struct ChildKey {
    child: usize,
    strength: Strength,
}

/// The foreign keys of all tables, without self-references and keys to unknown tables or columns.
#[derive(Debug)]
pub struct TableGraph {
    parents: Vec<Vec<ParentKey>>,
    children: Vec<Vec<ChildKey>>,
}

impl TableGraph {
    /// The graph of these tables.
    #[must_use]
    pub fn new(tables: &[Table]) -> Self {
        let positions = positions_by_name(tables);
        let mut graph = Self { parents: Vec::with_capacity(tables.len()), children: vec![Vec::new(); tables.len()] };
        for child in 0..tables.len() {
            graph.add_table(tables, &positions, child);
        }
        graph
    }

    fn add_table(&mut self, tables: &[Table], positions: &HashMap<&str, usize>, child: usize) {
        let keys = tables[child].foreign_keys.iter().enumerate();
        let parents = keys.filter_map(|(key, foreign)| {
            let parent = parent(tables, positions, foreign).filter(|parent| *parent != child)?;
            Some(ParentKey { key, parent, strength: foreign.strength })
        });
        let parents: Vec<ParentKey> = parents.collect();
        for &ParentKey { parent, strength, .. } in &parents {
            self.children[parent].push(ChildKey { child, strength });
        }
        self.parents.push(parents);
    }

    /// The keys of a table, in the order of the table.
    #[must_use]
    pub fn keys(&self, child: usize) -> &[ParentKey] {
        &self.parents[child]
    }

    /// How many tables lead to this one, including itself.
    #[must_use]
    pub fn reach(&self, owner: usize) -> usize {
        let mut reached = HashSet::from([owner]);
        let mut left = vec![owner];
        while let Some(table) = left.pop() {
            left.extend(self.children[table].iter().map(|key| key.child).filter(|child| reached.insert(*child)));
        }
        reached.len()
    }

    /// The smallest number of foreign keys from each table to an owner table. Weak keys are used only where owning keys
    /// do not lead to one.
    #[must_use]
    pub fn depths(&self, owners: &[usize]) -> Vec<Option<usize>> {
        let mut depths = vec![None; self.parents.len()];
        for &owner in owners {
            depths[owner] = Some(0);
        }
        self.follow_owning_keys(owners, &mut depths);
        self.follow_all_keys(&mut depths);
        depths
    }

    fn follow_owning_keys(&self, owners: &[usize], depths: &mut [Option<usize>]) {
        let mut left: VecDeque<usize> = owners.iter().copied().collect();
        while let Some(parent) = left.pop_front() {
            let owning = self.children[parent].iter().filter(|key| key.strength == Strength::Owning);
            for &ChildKey { child, .. } in owning {
                if depths[child].is_none() {
                    depths[child] = depths[parent].map(|depth| depth + 1);
                    left.push_back(child);
                }
            }
        }
    }

    /// Tables that have no depth get one in sweeps over all tables, until a sweep finds none. The result depends on
    /// the order of the tables, so a table is due at the place in the sweeps where its first parent is known.
    fn follow_all_keys(&self, depths: &mut [Option<usize>]) {
        let mut due = BTreeSet::new();
        for parent in (0..depths.len()).filter(|&table| depths[table].is_some()) {
            due.extend(self.children[parent].iter().map(|key| (0_usize, key.child)));
        }
        while let Some((sweep, table)) = due.pop_first() {
            if depths[table].is_some() {
                continue;
            }
            depths[table] = self.below_highest(depths, table);
            due.extend(self.children[table].iter().map(|key| (sweep + usize::from(key.child < table), key.child)));
        }
    }

    /// One more than the smallest depth of the parents.
    fn below_highest(&self, depths: &[Option<usize>], table: usize) -> Option<usize> {
        Some(self.parents[table].iter().filter_map(|key| depths[key.parent]).min()? + 1)
    }
}

/// Positions of tables by name.
pub fn positions_by_name(tables: &[Table]) -> HashMap<&str, usize> {
    let mut positions = HashMap::with_capacity(tables.len());
    for (at, table) in tables.iter().enumerate() {
        positions.entry(table.name.as_str()).or_insert(at);
    }
    positions
}

/// The parent table of a foreign key, if it has the columns.
fn parent(tables: &[Table], positions: &HashMap<&str, usize>, foreign: &ForeignKey) -> Option<usize> {
    let &parent = positions.get(foreign.parent.as_str())?;
    let has_columns = foreign.parent_columns.iter().all(|name| has_column(&tables[parent], name));
    has_columns.then_some(parent)
}

fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == name)
}

/// All items from 0 on in the order of `starts`, but each after its parents. A loop and not a recursion, because chains
/// of parents can be long.
#[must_use]
pub fn parents_first(starts: &[usize], parents: &[Vec<usize>]) -> Vec<usize> {
    let mut walk = ParentsFirst { parents, begun: vec![false; parents.len()], open: Vec::new(), order: Vec::new() };
    for &start in starts {
        walk.visit(start);
    }
    walk.order
}

/// A walk up to parents.
struct ParentsFirst<'a> {
    parents: &'a [Vec<usize>],
    begun: Vec<bool>,
    /// Items on the way up from the current start, each with its number of visited parents.
    open: Vec<(usize, usize)>,
    order: Vec<usize>,
}

impl ParentsFirst<'_> {
    fn visit(&mut self, start: usize) {
        self.begin(start);
        while let Some((item, visited)) = self.open.last_mut() {
            let parent = self.parents[*item].get(*visited).copied();
            *visited += 1;
            match parent {
                Some(parent) => self.begin(parent),
                None => self.end_last(),
            }
        }
    }

    fn begin(&mut self, item: usize) {
        if !std::mem::replace(&mut self.begun[item], true) {
            self.open.push((item, 0));
        }
    }

    fn end_last(&mut self) {
        let last = self.open.pop();
        self.order.extend(last.map(|(item, _)| item));
    }
}

#[cfg(test)]
mod tests {
    use super::parents_first;

    #[test]
    fn parents_come_first_even_in_long_chains_and_cycles() {
        let chain: Vec<Vec<usize>> = (0..200_000).map(|at| if at < 199_999 { vec![at + 1] } else { vec![0] }).collect();
        let order = parents_first(&(0..200_000).collect::<Vec<_>>(), &chain);
        assert!(order.iter().copied().eq((0..200_000).rev()));
        assert_eq!(parents_first(&[0, 1, 2], &[vec![2, 1], vec![], vec![1]]), [1, 2, 0]);
    }
}
