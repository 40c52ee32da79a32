//! Who reads which part of which table next: tables in the order of the plans, parents before their children, and as
//! many readers at one table as it has parts. Nobody waits while anything can be read.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use crate::base::pipeline::{lock, wait};
use crate::ops::backup::plan::{MapKey, TablePlan};
use crate::sort::OwnerMap;

/// What is left to be read.
pub struct Schedule<'p> {
    plans: &'p [TablePlan],
    state: Mutex<ReadState>,
    changed: Condvar,
}

struct ReadState {
    /// Per plan.
    tables: Vec<TableProgress>,
    /// Owners by keys of tables that were read, as long as somebody needs them.
    maps: HashMap<MapKey, Arc<OwnerMap>>,
    is_stopped: bool,
}

impl ReadState {
    fn has_work_left(&self) -> bool {
        !self.is_stopped && self.tables.iter().any(TableProgress::has_parts_left)
    }

    /// Whether somebody reads a table whose maps others may wait for.
    fn is_being_read(&self) -> bool {
        self.tables.iter().any(TableProgress::is_being_read)
    }
}

/// How far a table is.
#[derive(Clone, Copy, Default)]
struct TableProgress {
    parts: usize,
    /// Parts that were begun.
    begun: usize,
    /// Readers that have not handed in what they read.
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

    /// One more reader, with its first part.
    fn begin_reading(&mut self) -> usize {
        self.reading += 1;
        self.begin_part()
    }

    fn begin_part(&mut self) -> usize {
        self.begun += 1;
        self.begun - 1
    }
}

/// What a reader is to do.
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
    /// Everything was given out, or somebody failed.
    Nothing,
    /// The owners of a table are those of a table that is read after it: the plans contradict themselves.
    Impossible,
}

/// Whether what a reader hands in is the last of its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandedIn {
    Last,
    MoreComes,
}

impl<'p> Schedule<'p> {
    /// Nothing is read yet. `parts` says for each plan into how many parts its table is divided.
    #[must_use]
    pub fn new(plans: &'p [TablePlan], parts: &[usize]) -> Self {
        let tables = parts.iter().map(|parts| TableProgress::new(*parts)).collect();
        let state = ReadState { tables, maps: HashMap::new(), is_stopped: false };
        Self { plans, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The first part that can be read; waits while others read what it takes.
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

    /// Begins the first part of a table whose maps are all there.
    fn assign(&self, state: &mut ReadState) -> Option<Assignment> {
        let mut plans = 0..self.plans.len();
        plans.find_map(|plan| {
            let maps = self.ready_maps(plan, state)?;
            let part = state.tables[plan].begin_reading();
            Some(Assignment { plan, part, maps })
        })
    }

    /// The maps of a table that has parts left, if all of them are there.
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

    /// Another part of the table that the reader has in hand.
    pub fn more(&self, plan: usize) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_stopped || !state.tables[plan].has_parts_left() {
            return None;
        }
        Some(state.tables[plan].begin_part())
    }

    /// A reader has handed in what it read of a table.
    pub fn hand_in(&self, plan: usize) -> HandedIn {
        let table = &mut lock(&self.state).tables[plan];
        table.reading -= 1;
        if table.is_all_read() { HandedIn::Last } else { HandedIn::MoreComes }
    }

    /// All of a table was read: children may look into its maps. Drops maps that nobody needs any more.
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

    /// Whether a table that has parts left looks into this map.
    fn is_needed(&self, map: &MapKey, tables: &[TableProgress]) -> bool {
        let mut left = self.plans.iter().zip(tables).filter(|(_, table)| table.has_parts_left());
        left.any(|(plan, _)| plan.looks_into(map))
    }

    /// Somebody failed: nobody begins anything.
    pub fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.changed.notify_all();
    }
}
