//! Options of a restore to PostgreSQL.

/// How a database is restored.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub owners: Owners,
    pub globals: Globals,
    pub resume: Resume,
    /// Number of sessions that work in parallel.
    pub workers: usize,
    /// Tables to restore first, in this order. Their keys and indexes are built before the other tables get rows.
    pub first: Vec<String>,
}

impl Default for TargetOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        Self { owners: Owners::Restore, globals: Globals::Restore, resume: Resume::Refuse, workers, first: Vec::new() }
    }
}

/// Whether objects get their original owners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    Restore,
    /// The restoring role owns all objects. Statements that name a role that does not exist are skipped.
    LeaveOut,
}

/// Whether roles, their memberships and settings are restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Globals {
    Restore,
    LeaveOut,
}

/// What to do if the target contains an unfinished restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// Fail.
    Refuse,
    /// Resume it.
    Continue,
}
