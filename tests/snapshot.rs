//! A database into a repository and back, through the library: everything equal, nights cheap.

mod world;

use rusqlite::Connection;
use world::awkward::fill;
use world::{World, common_sqlite};

#[test]
fn a_database_comes_back_and_the_next_night_is_cheap() {
    let world = World::new();
    let database = world.path("live.sqlite");
    let db = Connection::open(&database).expect("a database");
    fill(&db, 400);
    let first = world.backup(&database);
    let tables: Vec<_> = first.tables.iter().map(|t| (t.name.as_str(), t.rows, t.orphans, t.leaves)).collect();
    println!("{tables:?} {first:?}");
    assert!(first.gaps.is_empty(), "{:?}", first.gaps);
    let back = world.path("back.sqlite");
    let restored = world.restore(&back);
    assert!(restored.refused.is_empty() && restored.damaged.is_empty(), "{restored:?}");
    assert_eq!(restored.stale_hints, 0);
    common_sqlite::assert_same_database(&database, &back);

    let unchanged = world.backup(&database);
    assert_eq!((unchanged.packs, unchanged.new_bytes), (0, 0), "{unchanged:?}");

    db.execute_batch("UPDATE contacts SET note = 'x' WHERE user_id = 13; DELETE FROM log WHERE seq < 5;
        INSERT INTO log (user_id, what) VALUES (13, 'edited'); UPDATE photos SET full = zeroblob(70000) WHERE id = 'p30'")
        .expect("a day");
    let churn = world.backup(&database);
    println!("{churn:?}");
    assert!(churn.new_bytes < 250_000, "{churn:?}");
    let again = world.path("again.sqlite");
    world.restore(&again);
    common_sqlite::assert_same_database(&database, &again);
}
