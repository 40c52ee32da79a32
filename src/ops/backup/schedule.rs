//! Assigns parts of tables to readers: tables in the order of the plans, parents before their children, and as many
//! readers per table as it has parts. No reader waits while anything can be read.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use crate::base::pipeline::{lock, wait};
use crate::ops::backup::plan::{MapKey, TablePlan};
use crate::sort::OwnerMap;

/// What is still to be read.
pub struct Schedule<'p> {
    plans: &'p [TablePlan],
    state: Mutex<ReadState>,
    changed: Condvar,
}

struct ReadState {
    /// Per plan.
    tables: Vec<TableProgress>,
    /// Owner maps of tables that were read, as long as another table needs them.
    maps: HashMap<MapKey, Arc<OwnerMap>>,
    is_stopped: bool,
}

impl ReadState {
    fn has_work_left(&self) -> bool {
        !self.is_stopped && self.tables.iter().any(TableProgress::has_parts_left)
    }

    /// Whether a table is being read whose maps others may wait for.
    fn is_being_read(&self) -> bool {
        self.tables.iter().any(TableProgress::is_being_read)
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
    is_complete: bool,
}

impl TableProgress {
    fn new(parts: usize) -> Self {
        Self { parts: parts.max(1), ..Self::default() }
    }

    fn has_parts_left(&self) -> bool {
        self.begun < self.parts
    }

    fn is_all_read(&self) -> bool {
        self.reading == 0 && !self.has_parts_left()
    }

    fn is_being_read(&self) -> bool {
        self.begun > 0 && !self.is_complete
    }

    /// Adds a reader and returns its first part.
    fn begin_reading(&mut self) -> usize {
        self.reading += 1;
        self.begin_part()
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
        let tables = parts.iter().map(|parts| TableProgress::new(*parts)).collect();
        let state = ReadState { tables, maps: HashMap::new(), is_stopped: false };
        Self { plans, state: Mutex::new(state), changed: Condvar::new() }
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
            if !state.is_being_read() {
                return NextPart::Impossible;
            }
            state = wait(&self.changed, state);
        }
    }

    /// Begins a part of the first table whose maps are all complete.
    fn assign(&self, state: &mut ReadState) -> Option<Assignment> {
        let mut plans = 0..self.plans.len();
        plans.find_map(|plan| {
            let maps = self.ready_maps(plan, state)?;
            let part = state.tables[plan].begin_reading();
            Some(Assignment { plan, part, maps })
        })
    }

    /// The maps that a table needs, if it has parts left and all its maps are complete.
    fn ready_maps(&self, plan: usize, state: &ReadState) -> Option<Vec<Arc<OwnerMap>>> {
        if !state.tables[plan].has_parts_left() {
            return None;
        }
        self.maps_of(plan, state)
    }

    fn maps_of(&self, plan: usize, state: &ReadState) -> Option<Vec<Arc<OwnerMap>>> {
        let paths = self.plans[plan].paths.iter();
        paths.map(|path| state.maps.get(&path.map).cloned()).collect()
    }

    /// Another part of the table that the reader is reading.
    pub fn more(&self, plan: usize) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_stopped || !state.tables[plan].has_parts_left() {
            return None;
        }
        Some(state.tables[plan].begin_part())
    }

    /// Records that a reader has handed in its rows of a table.
    pub fn hand_in(&self, plan: usize) -> HandedIn {
        let table = &mut lock(&self.state).tables[plan];
        table.reading -= 1;
        if table.is_all_read() { HandedIn::Last } else { HandedIn::MoreComes }
    }

    /// Records that a table has been read completely, so that its children can use its maps. Drops maps that are no
    /// longer needed.
    pub fn complete(&self, plan: usize, maps: impl IntoIterator<Item = (MapKey, OwnerMap)>) {
        let mut state = lock(&self.state);
        let ReadState { tables, maps: kept, .. } = &mut *state;
        tables[plan].is_complete = true;
        for (key, map) in maps {
            kept.insert(key, Arc::new(map));
        }
        kept.retain(|key, _| self.is_needed(key, tables));
        drop(state);
        self.changed.notify_all();
    }

    /// Whether a table with parts left uses this map.
    fn is_needed(&self, map: &MapKey, tables: &[TableProgress]) -> bool {
        let mut left = self.plans.iter().zip(tables).filter(|(_, table)| table.has_parts_left());
        left.any(|(plan, _)| plan.looks_into(map))
    }

    /// Stops all readers before their next part, because one has failed.
    pub fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.changed.notify_all();
    }
}
