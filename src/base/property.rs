//! How properties are tried in unit tests. Cases that failed are kept below `tests` and are tried first from then on.

use proptest::test_runner::{Config, FileFailurePersistence};

/// The usual number of cases.
pub(crate) fn config() -> Config {
    Config::with_failure_persistence(FileFailurePersistence::SourceParallel("tests/proptest-regressions"))
}

/// A number of cases that fits the time that each takes.
pub(crate) fn with_cases(cases: u32) -> Config {
    Config { cases, ..config() }
}
