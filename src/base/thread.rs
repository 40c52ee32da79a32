//! Threads with names: what each costs is to be seen from outside (`scripts/bench`).

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// As [`Scope::spawn`]; panics as that does when the system has no thread left. Linux shows 15 bytes of the name.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work).expect("the system has threads")
}

/// What a thread came to; its panic goes on here.
pub fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
