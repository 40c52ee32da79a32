//! Configuration of property tests in unit tests. Failed cases are saved below `tests` and tried first from then on.

use proptest::test_runner::{Config, FileFailurePersistence};

/// The default number of cases.
pub(crate) fn config() -> Config {
    Config::with_failure_persistence(FileFailurePersistence::SourceParallel("tests/proptest-regressions"))
}

/// A number of cases chosen by the time that each case takes, unless `PROPTEST_CASES` is set.
pub(crate) fn with_cases(cases: u32) -> Config {
    let config = config();
    // The default is read from the variable.
    let is_set = config.cases != 256;
    Config { cases: if is_set { config.cases } else { cases }, ..config }
}
