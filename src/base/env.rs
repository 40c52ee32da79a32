//! Clock and entropy: the two inputs from the outside world that all other code must be given, so that any run can be
//! replayed. `clippy.toml` bans other ways to get them. Environment variables are in `cli/environment.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::base::time::Moment;

/// Source of time and random bytes.
pub trait Env: Send + Sync {
    /// The host's clock.
    fn now(&self) -> Moment;
    /// Fills `bytes` with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// Shared by everything that runs for one command.
pub type SharedEnv = Arc<dyn Env>;

/// `N` random bytes.
#[must_use]
pub fn random<const N: usize>(env: &dyn Env) -> [u8; N] {
    let mut bytes = [0; N];
    env.fill(&mut bytes);
    bytes
}

/// The machine's clock and the kernel's random bytes.
#[derive(Debug, Default)]
pub struct System;

impl Env for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Moment {
        Moment(jiff::Timestamp::now().as_microsecond())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the kernel's entropy")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel provides random bytes");
    }
}

/// A clock that advances one millisecond per reading, and bytes derived from a seed. For tests and golden vectors,
/// never for keys that protect anything.
#[derive(Debug)]
pub struct Seeded {
    seed: u64,
    draws: AtomicU64,
    now: AtomicI64,
}

impl Seeded {
    /// Starts at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, draws: AtomicU64::new(0), now: AtomicI64::new(1_767_225_600_000_000) }
    }

    /// Moves the clock forward.
    pub fn advance_us(&self, microseconds: i64) {
        self.now.fetch_add(microseconds, Ordering::SeqCst);
    }
}

impl Env for Seeded {
    fn now(&self) -> Moment {
        Moment(self.now.fetch_add(1000, Ordering::SeqCst))
    }

    fn fill(&self, bytes: &mut [u8]) {
        let draw = self.draws.fetch_add(1, Ordering::SeqCst);
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"seeded entropy for tests");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&draw.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }
}
