//! What a person may want of a restore to PostgreSQL.

/// How a database is restored.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub owners: Owners,
    pub globals: Globals,
    pub resume: Resume,
    /// Sessions that work at the same time.
    pub workers: usize,
    /// Tables that are restored first, in this order, and have their keys and indexes before the others have rows.
    pub first: Vec<String>,
}

impl Default for TargetOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        Self { owners: Owners::Restore, globals: Globals::Restore, resume: Resume::Refuse, workers, first: Vec::new() }
    }
}

/// Whether objects get the owners that they had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    Restore,
    /// All belong to the role that restores, and what names a role that is not there is left out.
    LeaveOut,
}

/// Whether roles, their memberships and settings are restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Globals {
    Restore,
    LeaveOut,
}

/// What is done about a restore that did not come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// It is in the way.
    Refuse,
    /// It goes on.
    GoOn,
}
