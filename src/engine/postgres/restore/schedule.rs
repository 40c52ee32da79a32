//! Work for several sessions at once, the largest first, where no two work on what one of them must have alone.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};

use crate::base::pipeline::{Alarm, into_inner, join_all, lock, spawn, wait};
use crate::engine::contract::SourceError;

/// Something to be done.
#[derive(Debug)]
pub(super) struct Task<T> {
    pub(super) work: T,
    /// How large it is, compared with the others.
    pub(super) weight: u64,
    /// What it works on.
    pub(super) claims: Vec<(String, WorkClaim)>,
}

/// How something is worked on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WorkClaim {
    Shared,
    Alone,
}

struct ScheduleState<'t, T> {
    /// The largest last.
    waiting: Vec<&'t Task<T>>,
    /// How many work on what; `usize::MAX`: one alone.
    busy: HashMap<&'t str, usize>,
    failed: Option<SourceError>,
    /// A worker has ended, so the others begin nothing more.
    is_stopped: bool,
}

impl<'t, T> ScheduleState<'t, T> {
    fn is_free(&self, task: &Task<T>) -> bool {
        task.claims.iter().all(|(what, claim)| match (self.busy.get(what.as_str()), claim) {
            (None | Some(0), _) => true,
            (Some(&usize::MAX), _) | (_, WorkClaim::Alone) => false,
            (Some(_), WorkClaim::Shared) => true,
        })
    }

    fn take(&mut self) -> Option<&'t Task<T>> {
        let at = self.waiting.iter().rposition(|task| self.is_free(task))?;
        let task = self.waiting.remove(at);
        for (what, claim) in &task.claims {
            let count = self.busy.entry(what).or_default();
            *count = if *claim == WorkClaim::Alone { usize::MAX } else { *count + 1 };
        }
        Some(task)
    }

    fn give_back(&mut self, task: &'t Task<T>) {
        for (what, claim) in &task.claims {
            let count = self.busy.entry(what).or_default();
            *count = if *claim == WorkClaim::Alone { 0 } else { count.saturating_sub(1) };
        }
    }
}

/// Does everything, with a thread for each session; the first error or panic ends it, once what is under way is done.
pub(super) fn in_parallel<S: Sync, T: Sync>(
    sessions: &[S],
    mut tasks: Vec<Task<T>>,
    work: &(dyn Fn(&S, &T) -> Result<(), SourceError> + Sync),
) -> Result<(), SourceError> {
    tasks.sort_by_key(|task| task.weight);
    let waiting = tasks.iter().collect();
    let state = Mutex::new(ScheduleState { waiting, busy: HashMap::new(), failed: None, is_stopped: false });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (state, changed) = (&state, &changed);
                spawn(scope, "build", move || work_off(state, changed, &|task| work(session, task)))
            })
            .collect();
        join_all(workers);
    });
    into_inner(state).failed.map_or(Ok(()), Err)
}

/// Does tasks until there are none left.
fn work_off<T>(state: &Mutex<ScheduleState<'_, T>>, changed: &Condvar, work: &dyn Fn(&T) -> Result<(), SourceError>) {
    // One that ends has failed or panicked, or found nothing left to begin.
    let _alarm = Alarm::new(|| {
        lock(state).is_stopped = true;
        changed.notify_all();
    });
    let mut guard = lock(state);
    while !guard.is_stopped && guard.failed.is_none() && !guard.waiting.is_empty() {
        let Some(task) = guard.take() else {
            guard = wait(changed, guard);
            continue;
        };
        drop(guard);
        let result = work(&task.work);
        guard = lock(state);
        guard.give_back(task);
        if let Err(error) = result {
            guard.failed.get_or_insert(error);
        }
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{ScheduleState, Task, WorkClaim, in_parallel};

    #[test]
    fn what_one_must_have_alone_is_nobody_elses() {
        let task = |work: u32, weight, claims: &[(&str, WorkClaim)]| Task {
            work,
            weight,
            claims: claims.iter().map(|(what, claim)| ((*what).to_owned(), *claim)).collect(),
        };
        let mut tasks = [
            task(0, 5, &[("a", WorkClaim::Shared)]),
            task(1, 9, &[("a", WorkClaim::Alone)]),
            task(2, 1, &[("a", WorkClaim::Shared), ("b", WorkClaim::Alone)]),
            task(3, 3, &[("b", WorkClaim::Shared)]),
        ];
        tasks.sort_by_key(|task| task.weight);
        let mut state = ScheduleState {
            waiting: tasks.iter().collect(),
            busy: Default::default(),
            failed: None,
            is_stopped: false,
        };
        let first = state.take().expect("the largest");
        let second = state.take().expect("another table's");
        assert_eq!((first.work, second.work), (1, 3));
        assert!(state.take().is_none());
        state.give_back(first);
        assert_eq!(state.take().map(|task| task.work), Some(0));
        assert!(state.take().is_none(), "b is in use");
        state.give_back(second);
        assert_eq!(state.take().map(|task| task.work), Some(2), "both share a");
    }

    #[test]
    fn a_panic_ends_the_others_and_goes_on_in_who_waits_for_them() {
        let task = |work: u32| Task { work, weight: u64::from(work), claims: vec![("a".to_owned(), WorkClaim::Alone)] };
        let tasks = (0..8).map(task).collect();
        let done = std::panic::catch_unwind(|| {
            in_parallel(&[(), (), ()], tasks, &|(), work: &u32| if *work == 6 { panic!("no more") } else { Ok(()) })
        });
        let panic = done.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"no more"));
    }
}
