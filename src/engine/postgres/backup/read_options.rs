//! How hard a server may be read: sessions at once, whether its other work comes first, bytes per second.
//!
//! Only says; whoever reads holds to it.

use std::num::{NonZeroU64, NonZeroUsize};

/// What whoever asks for a snapshot allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOptions {
    /// Sessions that read at the same time, at most.
    pub sessions: NonZeroUsize,
    pub gentle: Gentle,
    pub max_rate: ReadRate,
}

/// Whether the server's own work comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gentle {
    /// One session reads, each table from its beginning to its end, so that what others need stays in memory.
    Yes,
    #[default]
    No,
}

/// How much may be read in a second, all sessions together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadRate {
    #[default]
    Unlimited,
    BytesPerSecond(NonZeroU64),
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { sessions: NonZeroUsize::MIN, gentle: Gentle::default(), max_rate: ReadRate::default() }
    }
}
