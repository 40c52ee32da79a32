//! Who reads which part of which table next: tables in the order of the plans, parents before their children, and as
//! many readers at one table as it has parts. Nobody waits while anything can be read.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    tables: Vec<Turn>,
    /// Owners by keys of tables that were read, as long as somebody needs them.
    maps: HashMap<MapKey, Arc<OwnerMap>>,
    course: Course,
}

/// How far a table is.
#[derive(Clone, Copy, Default)]
struct Turn {
    parts: usize,
    /// Parts that were begun.
    begun: usize,
    /// Readers that have not handed in what they read.
    reading: usize,
    is_complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    On,
    Stopped,
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
        let tables = parts.iter().map(|&parts| Turn { parts: parts.max(1), ..Turn::default() }).collect();
        let state = ReadState { tables, maps: HashMap::new(), course: Course::On };
        Self { plans, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ReadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first part that can be read; waits while others read what it takes.
    pub fn next(&self) -> NextPart {
        let mut state = self.lock();
        loop {
            if state.course == Course::Stopped || state.tables.iter().all(|table| table.begun == table.parts) {
                return NextPart::Nothing;
            }
            let found = self.plans.iter().enumerate().find_map(|(plan, of)| {
                let is_open = state.tables[plan].begun < state.tables[plan].parts;
                let maps = || of.paths.iter().map(|(_, key)| state.maps.get(key).cloned()).collect::<Option<_>>();
                Some((plan, is_open.then(maps)??))
            });
            if let Some((plan, maps)) = found {
                let table = &mut state.tables[plan];
                table.begun += 1;
                table.reading += 1;
                return NextPart::Read(Assignment { plan, part: table.begun - 1, maps });
            }
            if !state.tables.iter().any(|table| table.begun > 0 && !table.is_complete) {
                return NextPart::Impossible;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Another part of the table that the reader has in hand.
    pub fn more(&self, plan: usize) -> Option<usize> {
        let mut state = self.lock();
        let is_on = state.course == Course::On;
        let table = &mut state.tables[plan];
        let part = (is_on && table.begun < table.parts).then_some(table.begun)?;
        table.begun += 1;
        Some(part)
    }

    /// A reader has handed in what it read of a table.
    pub fn hand_in(&self, plan: usize) -> HandedIn {
        let table = &mut self.lock().tables[plan];
        table.reading -= 1;
        if table.reading == 0 && table.begun == table.parts { HandedIn::Last } else { HandedIn::MoreComes }
    }

    /// All of a table was read: children may look into its maps.
    pub fn complete(&self, plan: usize, maps: impl IntoIterator<Item = (MapKey, OwnerMap)>) {
        let mut state = self.lock();
        state.tables[plan].is_complete = true;
        state.maps.extend(maps.into_iter().map(|(key, map)| (key, Arc::new(map))));
        let ReadState { tables, maps, .. } = &mut *state;
        let left = || self.plans.iter().zip(tables.iter()).filter(|(_, table)| table.begun < table.parts);
        maps.retain(|key, _| left().any(|(plan, _)| plan.paths.iter().any(|path| path.1 == *key)));
        drop(state);
        self.changed.notify_all();
    }

    /// Somebody failed: nobody begins anything.
    pub fn stop(&self) {
        self.lock().course = Course::Stopped;
        self.changed.notify_all();
    }
}
