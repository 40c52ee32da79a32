//! The example of `docs/examples`, which embeds the library, reads the golden repository.

#![allow(dead_code, reason = "the example has a `main` of its own")]

#[path = "../../docs/examples/read_table.rs"]
mod read_table;

use std::path::Path;

use sidekeep::format::cell::Cell;
use tokio::runtime::Runtime;

use crate::support::world::SOURCE;

#[test]
fn the_example_reads_a_table() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let runtime = Runtime::new().expect("a runtime");
    let repository = golden.join("store");
    let open = |key: &str| {
        read_table::open(repository.to_str().expect("UTF-8"), &golden.join("keys").join(key), &runtime).expect("opens")
    };
    let admin = open("admin.key");
    let source = admin.find_source(Some(SOURCE)).expect("a source");
    let snapshots = read_table::list(&admin, source).expect("snapshots");
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.is_sorted_by_key(|snapshot| snapshot.number));
    let table = read_table::read(&admin, source, "users").expect("a table");
    assert_eq!(table.columns, ["id", "email", "note", "born"]);
    assert_eq!(table.rows.len(), 8);
    assert!(
        table
            .rows
            .iter()
            .any(|row| row[1].get() == Cell::Text("u4@example.org") && row[3].get() == Cell::Integer(1990))
    );
    // An operator lists snapshots and reads no row.
    let operator = open("operator.key");
    assert_eq!(read_table::list(&operator, source).expect("snapshots").len(), 2);
    assert!(read_table::read(&operator, source, "users").is_err());
    assert!(read_table::read(&admin, source, "nothing").is_err());
}
