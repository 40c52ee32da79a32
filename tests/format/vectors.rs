//! Committed bytes to compare with. A difference is a change of the stored format.

use std::path::PathBuf;

/// Returns the committed file after comparing it with `written`.
pub fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format/vectors").join(name);
    if std::env::var_os("SIDEKEEP_BLESS").is_some_and(|what| what == "vectors") {
        std::fs::write(&path, written).expect("writes the vector");
    }
    let committed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(committed == written, "{name} is no longer written as committed");
    committed
}
