//! Several sessions read one image: each row is read once, the trees are the same as with one session, and nobody waits
//! forever.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use sidekeep::engine::contract::Source;
use sidekeep::engine::postgres::backup::read_options::{Gentle, ReadOptions};
use sidekeep::engine::postgres::backup::source::PostgresSource;
use sidekeep::engine::postgres::value::column_type::FormatPreference;

use crate::source::{Live, Rows};

/// A table of more than two parts, with one row per page.
const LARGE: &str = "CREATE TABLE large (id int PRIMARY KEY, user_id bigint REFERENCES users, pad text);
    ALTER TABLE large ALTER pad SET STORAGE PLAIN;
    INSERT INTO large SELECT n, 1 + n % 300, rpad(n::text, 5000) FROM generate_series(1, 6500) AS n;
    DELETE FROM large WHERE id % 7 = 0";

impl Live {
    fn read_by(&self, sessions: usize, gentle: Gentle) -> PostgresSource {
        let sessions = NonZeroUsize::new(sessions).expect("not zero");
        self.source(FormatPreference::default()).with_options(ReadOptions {
            sessions,
            gentle,
            ..ReadOptions::default()
        })
    }
}

#[test]
fn sessions_and_parts_do_not_change_what_is_stored() {
    let Some(live) = Live::new() else { return };
    live.cluster.sql("sync", LARGE);
    let first = live.backup_from(&mut live.read_by(1, Gentle::No));
    assert!(first.new_bytes > 0);
    for (sessions, gentle) in [(2, Gentle::No), (5, Gentle::No), (5, Gentle::Yes)] {
        let mut source = live.read_by(sessions, gentle);
        let description = source.describe().expect("an image");
        assert!(
            description.bytes_estimate.is_some_and(|bytes| bytes > 6500 * 8192),
            "{:?}",
            description.bytes_estimate
        );
        let large = description.tables.iter().position(|table| table.name == "public.large").expect("the table");
        let parts = source.parts(large);
        assert_eq!(parts > 1, gentle == Gentle::No && live.cluster.version() >= 14, "{parts} parts");
        let again = live.backup_from(&mut source);
        assert_eq!((again.new_bytes, again.rows), (0, first.rows), "{sessions} sessions");
    }
    assert_eq!(live.restored().tables, live.live(FormatPreference::default()));
}

#[test]
fn the_leader_reads_a_table_that_another_session_is_queued_for() {
    let Some(live) = Live::new() else { return };
    let mut source = live.read_by(2, Gentle::No);
    let description = source.describe().expect("an image");
    let users = description.tables.iter().position(|table| table.name == "public.users").expect("the table");
    let other = live.cluster.client("sync");
    std::thread::scope(|scope| {
        let altering = scope.spawn(move || other.execute("altering", "ALTER TABLE users ADD COLUMN late int"));
        let begun = Instant::now();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while live.cluster.sql("sync", waits)[0][0].as_deref() == Some("0") {
            assert!(begun.elapsed() < Duration::from_secs(20), "the ALTER does not wait");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut rows = Rows::default();
        let mut readers = source.readers().expect("sessions");
        assert_eq!(readers.len(), 2);
        // The second reader has no lock, and can no longer get one.
        readers[1].read(users, 0, &mut rows).expect("read");
        assert_eq!(rows.0.values().sum::<usize>(), 300);
        drop(readers);
        source.release().expect("released");
        altering.join().expect("no panic").expect("altered in the end");
    });
}
