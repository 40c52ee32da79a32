//! Assigns parts of tables to readers: tables in the order of the plans, parents before their children, and as many
//! readers per table as it has parts. No reader waits while anything can be read.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex};

use crate::base::pipeline::{lock, wait};
use crate::ops::backup::plan::{MapKey, TablePlan};
use crate::sort::OwnerMap;

/// What is still to be read.
pub struct Schedule<'p> {
    plans: &'p [TablePlan],
    state: Mutex<ReadState<'p>>,
    changed: Condvar,
}

/// Every step costs as much as the tables that it concerns, not as much as there are tables.
struct ReadState<'p> {
    /// Per plan.
    tables: Vec<TableProgress>,
    /// Plans of tables that have parts left and whose maps are complete.
    ready: BTreeSet<usize>,
    /// Number of tables that have parts left.
    left: usize,
    /// Number of tables that are being read, whose maps others may wait for.
    being_read: usize,
    /// Every map that a path looks into.
    maps: HashMap<&'p MapKey, MapUse>,
    is_stopped: bool,
}

/// An owner map and the tables that use it.
#[derive(Default)]
struct MapUse {
    /// Set once the table that provides it was read. Empty again when no table with parts left needs it.
    map: Option<Arc<OwnerMap>>,
    /// Number of paths of tables with parts left.
    paths_left: usize,
    /// Plans that wait for the map, once for each path.
    waiting: Vec<usize>,
}

impl<'p> ReadState<'p> {
    fn new(plans: &'p [TablePlan], parts: &[usize]) -> Self {
        let tables = plans.iter().zip(parts).map(|(plan, parts)| TableProgress::new(*parts, plan.paths.len()));
        let mut maps: HashMap<&MapKey, MapUse> = HashMap::new();
        for (at, path) in plans.iter().enumerate().flat_map(|(at, plan)| plan.paths.iter().map(move |path| (at, path)))
        {
            let used = maps.entry(&path.key.map).or_default();
            used.paths_left += 1;
            used.waiting.push(at);
        }
        let ready = (0..plans.len()).filter(|&at| plans[at].paths.is_empty()).collect();
        Self { tables: tables.collect(), ready, left: plans.len(), being_read: 0, maps, is_stopped: false }
    }

    fn has_work_left(&self) -> bool {
        !self.is_stopped && self.left > 0
    }

    /// Begins a part of a table. After the last part, the table needs its maps no longer.
    fn begin_part(&mut self, at: usize, plan: &TablePlan) -> usize {
        let table = &mut self.tables[at];
        self.being_read += usize::from(table.begun == 0);
        let part = table.begin_part();
        if !table.has_parts_left() {
            self.left -= 1;
            self.ready.remove(&at);
            self.release_maps(plan);
        }
        part
    }

    fn release_maps(&mut self, plan: &TablePlan) {
        for path in &plan.paths {
            if let Some(used) = self.maps.get_mut(&path.key.map) {
                used.release();
            }
        }
    }

    /// Hands a map to the tables that wait for it.
    fn provide(&mut self, key: &MapKey, map: OwnerMap) {
        let Some(used) = self.maps.get_mut(key) else { return };
        used.map = Some(Arc::new(map));
        for at in std::mem::take(&mut used.waiting) {
            self.tables[at].maps_missing -= 1;
            if self.tables[at].maps_missing == 0 {
                self.ready.insert(at);
            }
        }
    }
}

impl MapUse {
    fn release(&mut self) {
        self.paths_left -= 1;
        if self.paths_left == 0 {
            self.map = None;
        }
    }
}

/// How much of a table has been read.
#[derive(Clone, Copy, Default)]
struct TableProgress {
    parts: usize,
    /// Parts that a reader has begun.
    begun: usize,
    /// Readers that have not handed in their rows yet.
    reading: usize,
    /// Paths whose map is not complete yet.
    maps_missing: usize,
}

impl TableProgress {
    fn new(parts: usize, maps_missing: usize) -> Self {
        Self { parts: parts.max(1), maps_missing, ..Self::default() }
    }

    fn has_parts_left(&self) -> bool {
        self.begun < self.parts
    }

    fn is_all_read(&self) -> bool {
        self.reading == 0 && !self.has_parts_left()
    }

    fn begin_part(&mut self) -> usize {
        self.begun += 1;
        self.begun - 1
    }
}

/// A part for a reader to read.
pub struct Assignment {
    /// Position among the plans.
    pub plan: usize,
    pub part: usize,
    /// One map for each owner path of the plan.
    pub maps: Vec<Arc<OwnerMap>>,
}

/// What is next for a reader.
pub enum NextPart {
    Read(Assignment),
    /// Every part is assigned, or a reader has failed.
    Nothing,
    /// A table needs the owner map of a table that is read after it: the plans contradict themselves.
    Impossible,
}

/// Whether a reader's rows are the last of their table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandedIn {
    Last,
    MoreComes,
}

impl<'p> Schedule<'p> {
    /// A schedule of which nothing is read yet. `parts` is the number of parts of each plan's table.
    #[must_use]
    pub fn new(plans: &'p [TablePlan], parts: &[usize]) -> Self {
        Self { plans, state: Mutex::new(ReadState::new(plans, parts)), changed: Condvar::new() }
    }

    /// The first part that can be read. Waits while others read the tables that it needs.
    pub fn next(&self) -> NextPart {
        let mut state = lock(&self.state);
        loop {
            if !state.has_work_left() {
                return NextPart::Nothing;
            }
            if let Some(assignment) = self.assign(&mut state) {
                return NextPart::Read(assignment);
            }
            if state.being_read == 0 {
                return NextPart::Impossible;
            }
            state = wait(&self.changed, state);
        }
    }

    /// Begins a part of the first table whose maps are all complete.
    fn assign(&self, state: &mut ReadState<'_>) -> Option<Assignment> {
        let plan = *state.ready.first()?;
        let maps = self.maps_of(plan, state)?;
        state.tables[plan].reading += 1;
        let part = state.begin_part(plan, &self.plans[plan]);
        Some(Assignment { plan, part, maps })
    }

    fn maps_of(&self, plan: usize, state: &ReadState<'_>) -> Option<Vec<Arc<OwnerMap>>> {
        let paths = self.plans[plan].paths.iter();
        paths.map(|path| state.maps.get(&path.key.map)?.map.clone()).collect()
    }

    /// Another part of the table that the reader is reading.
    pub fn more(&self, plan: usize) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_stopped || !state.tables[plan].has_parts_left() {
            return None;
        }
        Some(state.begin_part(plan, &self.plans[plan]))
    }

    /// Records that a reader has handed in its rows of a table.
    pub fn hand_in(&self, plan: usize) -> HandedIn {
        let table = &mut lock(&self.state).tables[plan];
        table.reading -= 1;
        if table.is_all_read() { HandedIn::Last } else { HandedIn::MoreComes }
    }

    /// Records that a table has been read completely, so that its children can use its maps.
    pub fn complete(&self, maps: impl IntoIterator<Item = (MapKey, OwnerMap)>) {
        let mut state = lock(&self.state);
        state.being_read -= 1;
        for (key, map) in maps {
            state.provide(&key, map);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Stops all readers before their next part, because one has failed.
    pub fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HandedIn, NextPart, Schedule};
    use crate::base::env::Seeded;
    use crate::ops::backup::plan::{JoinKey, JoinPath, MapKey, TablePlan};
    use crate::sort::{OwnerMap, OwnerMapBuilder, SpillFiles, SpillOptions};

    fn join_key(parent: usize) -> JoinKey {
        JoinKey { columns: Vec::new(), map: MapKey::of_table(parent as u32) }
    }

    fn join_path(parent: usize) -> JoinPath {
        JoinPath { key: join_key(parent), conditions: Vec::new(), missing_kind: 0 }
    }

    /// A plan whose rows are looked up in the maps of these tables.
    fn plan(table: usize, parents: &[usize]) -> TablePlan {
        TablePlan {
            table,
            number: table as u32,
            slots: Vec::new(),
            key: Vec::new(),
            owner_kind: None,
            paths: parents.iter().map(|&parent| join_path(parent)).collect(),
            parent_values: Vec::new(),
            provides: vec![join_key(table)],
        }
    }

    fn empty_map() -> OwnerMap {
        let dir = std::env::temp_dir();
        let env = Arc::new(Seeded::new(1));
        let options = SpillOptions { dir, memory_bytes: 1000, env, files: SpillFiles::default() };
        OwnerMapBuilder::new(options).finish().expect("nothing is written")
    }

    fn assigned(schedule: &Schedule<'_>) -> (usize, usize, usize) {
        match schedule.next() {
            NextPart::Read(assignment) => (assignment.plan, assignment.part, assignment.maps.len()),
            NextPart::Nothing => panic!("nothing is left"),
            NextPart::Impossible => panic!("nothing can be read"),
        }
    }

    fn read(schedule: &Schedule<'_>, plan: usize) {
        assert_eq!(schedule.hand_in(plan), HandedIn::Last);
        schedule.complete([(join_key(plan).map, empty_map())]);
    }

    #[test]
    fn a_table_is_read_after_its_parents_and_maps_are_kept_while_they_are_needed() {
        let plans = [plan(0, &[]), plan(1, &[0]), plan(2, &[0, 1]), plan(3, &[])];
        let schedule = Schedule::new(&plans, &[1, 2, 1, 1]);
        assert_eq!((assigned(&schedule), assigned(&schedule)), ((0, 0, 0), (3, 0, 0)));
        read(&schedule, 0);
        assert_eq!((assigned(&schedule), assigned(&schedule)), ((1, 0, 1), (1, 1, 1)));
        assert_eq!(schedule.more(1), None);
        assert_eq!(schedule.hand_in(1), HandedIn::MoreComes);
        read(&schedule, 1);
        read(&schedule, 3);
        assert_eq!(assigned(&schedule), (2, 0, 2));
        read(&schedule, 2);
        assert!(matches!(schedule.next(), NextPart::Nothing));
        let is_kept = |used: &super::MapUse| used.map.is_some();
        assert!(!schedule.state.lock().expect("no thread panicked").maps.values().any(is_kept));
    }

    #[test]
    fn plans_that_wait_for_each_other_are_impossible() {
        let plans = [plan(0, &[1]), plan(1, &[0])];
        assert!(matches!(Schedule::new(&plans, &[1, 1]).next(), NextPart::Impossible));
    }

    /// With a search for each table, this takes minutes.
    #[test]
    fn many_tables_are_scheduled_at_a_cost_per_table() {
        let count = 30_000;
        let plans: Vec<TablePlan> =
            (0..count).map(|at| if at == 0 { plan(0, &[]) } else { plan(at, &[0, at - 1]) }).collect();
        let schedule = Schedule::new(&plans, &vec![1; count]);
        for at in 0..count {
            assert_eq!(assigned(&schedule).0, at);
            read(&schedule, at);
        }
        assert!(matches!(schedule.next(), NextPart::Nothing));
    }
}
