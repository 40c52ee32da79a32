//! Shared by the threads of all pipelines: names, locks, and how they stop together.
//!
//! A stage that ends early must stop the others, or they wait for it forever ([`Alarm`], [`stop_on_failure`]). The
//! others then fail as a consequence. The error to show is the cause (`first_cause`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Like [`Scope::spawn`], with a name, so that external tools can measure each thread (`scripts/bench`). Linux shows
/// 15 bytes of the name. Panics like [`Scope::spawn`] if the system cannot create a thread.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work).expect("the system can create a thread")
}

/// Waits for the result of a thread. Resumes the thread's panic, if any.
pub fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits for all threads, then returns their results. Resumes a thread's panic only after all threads have ended.
pub fn join_all<'scope, T>(handles: impl IntoIterator<Item = ScopedJoinHandle<'scope, T>>) -> Vec<T> {
    let ended: Vec<_> = handles.into_iter().map(ScopedJoinHandle::join).collect();
    ended.into_iter().map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
}

/// Locks the mutex even if another thread panicked while it held the lock: [`join`] reports that panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Like [`Condvar::wait`], but ignores poisoning as [`lock`] does.
pub fn wait<'g, T>(condvar: &Condvar, guard: MutexGuard<'g, T>) -> MutexGuard<'g, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Like [`Mutex::into_inner`], but ignores poisoning as [`lock`] does.
pub fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `stop` when dropped, also by a panic, unless it was disarmed.
pub struct Alarm<F: Fn()> {
    stop: F,
    is_armed: bool,
}

impl<F: Fn()> Alarm<F> {
    /// An armed alarm.
    pub fn new(stop: F) -> Self {
        Self { stop, is_armed: true }
    }

    /// Drops the alarm without calling `stop`.
    pub fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl<F: Fn()> Drop for Alarm<F> {
    fn drop(&mut self) {
        if self.is_armed {
            (self.stop)();
        }
    }
}

/// Runs a stage. If it fails or panics, calls `stop`, which must stop the other stages.
/// Fails with the error of `stage`.
pub fn stop_on_failure<T, E>(stop: impl Fn(), stage: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let alarm = Alarm::new(stop);
    let done = stage()?;
    alarm.disarm();
    Ok(done)
}

/// An error with which a stage ends.
pub trait StageError {
    /// Whether the stage ended because another stage failed.
    fn is_consequence(&self) -> bool;
}

/// The first error that is not a consequence of another one. If all are consequences, the first error.
fn first_cause<E: StageError>(errors: impl IntoIterator<Item = E>) -> Option<E> {
    let mut first = None;
    for error in errors {
        if !error.is_consequence() {
            return Some(error);
        }
        first.get_or_insert(error);
    }
    first
}

/// The values of all results, in their order.
/// Fails if any result is an error, with the first error that is not a consequence of another.
pub fn all_or_first_cause<T, E: StageError>(results: impl IntoIterator<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    first_cause(errors).map_or(Ok(values), Err)
}

/// The values of two stages.
/// Fails if one of them failed. If both failed, with the error of `a`, unless that is a consequence of another failure.
pub fn both_or_first_cause<A, B, E: StageError>(a: Result<A, E>, b: Result<B, E>) -> Result<(A, B), E> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(if a.is_consequence() { b } else { a }),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use super::{
        StageError, all_or_first_cause, both_or_first_cause, first_cause, into_inner, join, join_all, lock, spawn,
        stop_on_failure,
    };

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Failure {
        Own(u32),
        OfAnother(u32),
    }

    impl StageError for Failure {
        fn is_consequence(&self) -> bool {
            matches!(self, Self::OfAnother(_))
        }
    }

    #[test]
    fn a_stage_that_fails_or_panics_stops_the_others() {
        let is_stopped = AtomicBool::new(false);
        let stop = || is_stopped.store(true, Ordering::SeqCst);
        assert_eq!(stop_on_failure(stop, || Ok::<_, Failure>(1)), Ok(1));
        assert!(!is_stopped.load(Ordering::SeqCst), "a stage that succeeds stops nothing");
        assert_eq!(stop_on_failure(stop, || Err::<(), _>(Failure::Own(1))), Err(Failure::Own(1)));
        assert!(is_stopped.swap(false, Ordering::SeqCst));
        let stage = || -> Result<(), Failure> { panic!("no more") };
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stop_on_failure(stop, stage)));
        assert!(panic.is_err());
        assert!(is_stopped.load(Ordering::SeqCst));
    }

    #[test]
    fn a_cause_is_reported_before_its_consequences() {
        let errors = [Failure::OfAnother(1), Failure::Own(2), Failure::OfAnother(3), Failure::Own(4)];
        assert_eq!(first_cause(errors), Some(Failure::Own(2)));
        assert_eq!(first_cause([Failure::OfAnother(1), Failure::OfAnother(2)]), Some(Failure::OfAnother(1)));
        assert_eq!(first_cause(Vec::<Failure>::new()), None);
        assert_eq!(all_or_first_cause([Ok::<_, Failure>(1), Ok(2)]), Ok(vec![1, 2]));
        assert_eq!(all_or_first_cause([Ok(1), Err(Failure::OfAnother(1)), Err(Failure::Own(2))]), Err(Failure::Own(2)));
        let own = Err::<(), _>(Failure::Own(1));
        let consequence = Err::<(), _>(Failure::OfAnother(2));
        assert_eq!(both_or_first_cause(own, consequence), Err(Failure::Own(1)));
        assert_eq!(both_or_first_cause(consequence, own), Err(Failure::Own(1)));
        assert_eq!(both_or_first_cause(Ok(1), own), Err(Failure::Own(1)));
        assert_eq!(both_or_first_cause(Ok::<_, Failure>(1), Ok(2)), Ok((1, 2)));
    }

    #[test]
    fn a_panic_leaves_locks_usable_and_resumes_in_join() {
        let count = Arc::new(Mutex::new(1));
        let joined = std::panic::catch_unwind(|| {
            std::thread::scope(|scope| {
                let panics = spawn(scope, "panics", || {
                    let _guard = lock(&count);
                    panic!("no more");
                });
                let ends = spawn(scope, "ends", || ());
                join_all([panics, ends])
            })
        });
        let panic = joined.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"no more"));
        *lock(&count) += 1;
        let seen = std::thread::scope(|scope| join(spawn(scope, "looks", || *lock(&count))));
        assert_eq!(seen, 2);
        assert_eq!(into_inner(Arc::into_inner(count).expect("the last reference")), 2);
    }
}
