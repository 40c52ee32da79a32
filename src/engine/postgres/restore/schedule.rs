//! Runs tasks in several sessions in parallel, the largest first. Two tasks that share a resource run in parallel only
//! if neither needs exclusive use of it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::base::pipeline::{Alarm, into_inner, join_all, lock, spawn, wait};
use crate::engine::contract::EngineError;

/// A unit of work.
#[derive(Debug)]
pub(super) struct Task<T> {
    pub(super) work: T,
    /// Its size relative to other tasks.
    pub(super) weight: u64,
    /// The names of what it uses, such as a table.
    pub(super) resources: Vec<(String, ResourceUse)>,
}

/// How a task uses a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ResourceUse {
    Shared,
    Exclusive,
}

/// The current use of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Usage {
    /// Shared by this many tasks. 0 means that it is free.
    Shared(usize),
    Exclusive,
}

impl Usage {
    fn allows(self, wanted: ResourceUse) -> bool {
        match self {
            Self::Shared(0) => true,
            Self::Shared(_) => wanted == ResourceUse::Shared,
            Self::Exclusive => false,
        }
    }

    fn add(self, wanted: ResourceUse) -> Self {
        match (self, wanted) {
            (Self::Shared(count), ResourceUse::Shared) => Self::Shared(count + 1),
            _ => Self::Exclusive,
        }
    }

    fn remove(self) -> Self {
        match self {
            Self::Shared(count) => Self::Shared(count.saturating_sub(1)),
            Self::Exclusive => Self::Shared(0),
        }
    }
}

struct ScheduleState<'t, T> {
    /// Sorted by weight, the largest last.
    waiting: Vec<&'t Task<T>>,
    in_use: HashMap<&'t str, Usage>,
    failed: Option<EngineError>,
    /// A thread panicked, so its task will never end.
    is_broken: bool,
}

impl<'t, T> ScheduleState<'t, T> {
    /// `tasks` must be sorted by weight, ascending.
    fn new(tasks: &'t [Task<T>]) -> Self {
        Self { waiting: tasks.iter().collect(), in_use: HashMap::new(), failed: None, is_broken: false }
    }

    fn has_work(&self) -> bool {
        self.failed.is_none() && !self.is_broken && !self.waiting.is_empty()
    }

    fn usage(&self, resource: &str) -> Usage {
        self.in_use.get(resource).copied().unwrap_or(Usage::Shared(0))
    }

    fn can_run(&self, task: &Task<T>) -> bool {
        task.resources.iter().all(|(name, wanted)| self.usage(name).allows(*wanted))
    }

    /// Takes the largest task that can run now.
    fn take(&mut self) -> Option<&'t Task<T>> {
        let at = self.waiting.iter().rposition(|task| self.can_run(task))?;
        let task = self.waiting.remove(at);
        for (name, wanted) in &task.resources {
            let usage = self.usage(name).add(*wanted);
            self.in_use.insert(name, usage);
        }
        Some(task)
    }

    fn release(&mut self, task: &'t Task<T>) {
        for (name, _) in &task.resources {
            let usage = self.usage(name).remove();
            self.in_use.insert(name, usage);
        }
    }
}

/// The tasks, shared by all threads.
struct TaskSchedule<'t, T> {
    state: Mutex<ScheduleState<'t, T>>,
    changed: Condvar,
}

impl<'t, T> TaskSchedule<'t, T> {
    fn new(tasks: &'t [Task<T>]) -> Self {
        Self { state: Mutex::new(ScheduleState::new(tasks)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ScheduleState<'t, T>> {
        lock(&self.state)
    }

    /// Waits for a task that can run. Returns `None` once no tasks are left.
    fn next(&self) -> Option<&'t Task<T>> {
        let mut state = self.lock();
        while state.has_work() {
            if let Some(task) = state.take() {
                return Some(task);
            }
            state = wait(&self.changed, state);
        }
        None
    }

    fn finish(&self, task: &'t Task<T>, result: Result<(), EngineError>) {
        let mut state = self.lock();
        state.release(task);
        if let Err(error) = result {
            state.failed.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    /// Makes all threads stop.
    fn stop(&self) {
        self.lock().is_broken = true;
        self.changed.notify_all();
    }

    /// Runs tasks until none are left.
    fn run(&self, work: &dyn Fn(&T) -> Result<(), EngineError>) {
        let alarm = Alarm::new(|| self.stop());
        while let Some(task) = self.next() {
            let result = work(&task.work);
            self.finish(task, result);
        }
        alarm.disarm();
    }
}

/// Runs all tasks, with one thread per session. After the first error or panic no new tasks start, and the call returns
/// once the running tasks end.
/// Fails with the first error of `work`.
pub(super) fn run_in_parallel<S: Sync, T: Sync>(
    sessions: &[S],
    mut tasks: Vec<Task<T>>,
    work: &(dyn Fn(&S, &T) -> Result<(), EngineError> + Sync),
) -> Result<(), EngineError> {
    tasks.sort_by_key(|task| task.weight);
    let schedule = TaskSchedule::new(&tasks);
    std::thread::scope(|scope| {
        let mut workers = Vec::with_capacity(sessions.len());
        for session in sessions {
            let schedule = &schedule;
            workers.push(spawn(scope, "build", move || schedule.run(&|task| work(session, task))));
        }
        join_all(workers);
    });
    into_inner(schedule.state).failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::{ResourceUse, ScheduleState, Task, run_in_parallel};

    #[test]
    fn tasks_that_need_an_exclusive_resource_do_not_overlap() {
        let task = |work: u32, weight, resources: &[(&str, ResourceUse)]| Task {
            work,
            weight,
            resources: resources.iter().map(|(name, how)| ((*name).to_owned(), *how)).collect(),
        };
        let mut tasks = [
            task(0, 5, &[("a", ResourceUse::Shared)]),
            task(1, 9, &[("a", ResourceUse::Exclusive)]),
            task(2, 1, &[("a", ResourceUse::Shared), ("b", ResourceUse::Exclusive)]),
            task(3, 3, &[("b", ResourceUse::Shared)]),
        ];
        tasks.sort_by_key(|task| task.weight);
        let mut state = ScheduleState::new(&tasks);
        let first = state.take().expect("the largest");
        let second = state.take().expect("a task of another table");
        assert_eq!((first.work, second.work), (1, 3));
        assert!(state.take().is_none());
        state.release(first);
        assert_eq!(state.take().map(|task| task.work), Some(0));
        assert!(state.take().is_none(), "b is in use");
        state.release(second);
        assert_eq!(state.take().map(|task| task.work), Some(2), "both share a");
    }

    #[test]
    fn a_panic_stops_the_other_threads_and_resumes_in_the_caller() {
        let task = |work: u32| Task {
            work,
            weight: u64::from(work),
            resources: vec![("a".to_owned(), ResourceUse::Exclusive)],
        };
        let tasks = (0..8).map(task).collect();
        let done = std::panic::catch_unwind(|| {
            run_in_parallel(&[(), (), ()], tasks, &|(), work: &u32| if *work == 6 { panic!("no more") } else { Ok(()) })
        });
        let panic = done.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"no more"));
    }
}
