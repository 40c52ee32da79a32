//! How many cases property tests run.

use proptest::test_runner::Config;

/// `cases`, chosen by the time that each takes, unless `PROPTEST_CASES` is set.
pub fn with_cases(cases: u32) -> Config {
    let config = Config::default();
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    Config { cases: if is_set { config.cases } else { cases }, ..config }
}
