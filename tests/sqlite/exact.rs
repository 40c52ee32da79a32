//! Round trips that must lose nothing: no gap, nothing refused, the same database.

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::bridge::{restore, snapshot};
use crate::common_sqlite::assert_same_database;

/// A database in a directory of its own.
struct Made {
    dir: TempDir,
    path: PathBuf,
    conn: Connection,
}

fn make(sql: &str) -> Made {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("source.db");
    let conn = Connection::open(&path).expect("a database");
    conn.execute_batch(sql).expect("the test's own statements");
    Made { dir, path, conn }
}

impl Made {
    fn comes_back(self) {
        self.conn.close().expect("close");
        let copy = self.dir.path().join("copy.db");
        let snapshot = snapshot(&self.path);
        assert_eq!(snapshot.gaps, []);
        let restored = restore(&snapshot, &copy);
        assert_eq!(restored.refused, []);
        assert_same_database(&self.path, &copy);
        assert_eq!(
            std::fs::read_dir(self.dir.path()).expect("the directory").count(),
            2,
            "nothing is left beside the databases"
        );
        let again = crate::bridge::snapshot(&copy);
        assert_eq!(again.description.schema, snapshot.description.schema);
    }
}

const VALUES: &str = "
    INSERT INTO t VALUES(0, NULL), (1, 0), (2, -1), (3, 9223372036854775807), (4, -9223372036854775808),
      (5, 127), (6, 128), (7, 32768), (8, 2147483648), (9, 0.0), (10, -0.0), (11, 1e308), (12, 5e-324), (13, 9e999),
      (14, -9e999), (15, 0.1), (16, 9007199254740993.0), (17, 5.0), (18, ''), (19, x''), (20, 'a' || char(0) || 'b'),
      (21, x'00ff'), (22, CAST(x'ff' AS TEXT)), (23, CAST(x'61c3' AS TEXT)), (24, CAST(x'00d800dc' AS TEXT)),
      (25, CAST(x'0041d800' AS TEXT)), (26, char(0x1f600)), (27, char(0xfffe)), (28, char(0xffff)), (29, char(0xfeff) || 'x'),
      (30, '123'), (31, '1e5'), (32, ' 1'), (33, '9223372036854775808'), (34, zeroblob(100000)), (35, char(0xfffd)),
      (36, 9e999 - 9e999), (37, CAST(x'0000' AS TEXT)), (38, CAST(x'3100ff00' AS TEXT));";

#[test]
fn values_of_every_class_in_columns_of_every_affinity_and_encoding() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        for affinity in ["", "INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", "FLOAT NOT NULL DEFAULT 3 COLLATE NOCASE"] {
            let values = VALUES.replace("(0, NULL), ", "").replace("(36, 9e999 - 9e999), ", "");
            make(&format!(
                "PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, v {affinity}); {values}"
            ))
            .comes_back();
        }
        make(&format!("PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, v); {VALUES}"))
            .comes_back();
    }
}
