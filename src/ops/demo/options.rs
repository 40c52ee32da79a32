//! The options of a demo.

use std::path::PathBuf;

use tokio::runtime::Handle;

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::progress::SharedProgress;

/// What to create, and where.
#[derive(Clone)]
pub struct DemoOptions {
    /// A directory that is empty or does not exist.
    pub dir: PathBuf,
    pub users: u32,
    pub runs: u32,
    /// Threads that compress and seal.
    pub workers: usize,
    pub runtime: Handle,
    pub env: SharedEnv,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

impl DemoOptions {
    /// A hundred users.
    pub const USERS: u32 = 100;
    /// A week of backup runs.
    pub const RUNS: u32 = 7;
}
