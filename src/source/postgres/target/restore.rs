//! An empty database, restored to.

use tokio::runtime::Handle;

use crate::format::cell::Cell;
use crate::source::contract::{Content, Refused, SourceError, Target};
use crate::source::postgres::address::Address;
use crate::source::postgres::target::options::TargetOptions;

/// A database in the making.
pub struct PostgresTarget {
    address: Address,
    runtime: Handle,
    options: TargetOptions,
    notes: Vec<String>,
}

impl PostgresTarget {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(address: Address, runtime: Handle, options: TargetOptions) -> Self {
        Self { address, runtime, options, notes: Vec::new() }
    }

    /// What is worth saying of the finished database and is no failure, such as roles that were there already.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn not_yet(&self) -> SourceError {
        let reason = format!("not yet ({:?}, {:?})", self.options, self.runtime);
        SourceError::Failed { doing: format!("restore to {}", self.address), reason }
    }
}

impl Target for PostgresTarget {
    fn begin(&mut self, _: &Content<'_>) -> Result<(), SourceError> {
        Err(self.not_yet())
    }

    fn table(&mut self, _: usize) -> Result<(), SourceError> {
        Err(self.not_yet())
    }

    fn row(&mut self, _: &[Cell<'_>]) -> Result<(), SourceError> {
        Err(self.not_yet())
    }

    fn finish(&mut self) -> Result<Vec<Refused>, SourceError> {
        Err(self.not_yet())
    }
}
