//! A database into a repository and back, through the library: everything equal, nights cheap.

mod world;

use rusqlite::Connection;
use world::{World, common_sqlite};

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, avatar TEXT REFERENCES photos (id) ON DELETE SET NULL);
CREATE TABLE photos (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), thumb BLOB, full BLOB);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), name TEXT, note TEXT);
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id), value);
CREATE TABLE shares (contact_id TEXT REFERENCES contacts (id), user_id INTEGER REFERENCES users (id), PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id), what TEXT);
CREATE TABLE settings (name TEXT, value);
CREATE INDEX contacts_user ON contacts (user_id);
";

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn fill(db: &Connection, users: i64) {
    db.execute_batch(SCHEMA).expect("a schema");
    db.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").expect("begins");
    for user in 1..=users {
        db.execute("INSERT INTO users VALUES (?1, ?2, NULL)", (user, format!("u{user}@example.org"))).expect("a user");
        for n in 0..(user % 7) {
            let contact = format!("{user}-{n}-{}", noise((user * 100 + n) as u64, 1)[0]);
            db.execute("INSERT INTO contacts VALUES (?1, ?2, ?3, NULL)", (&contact, user, format!("name {n}")))
                .expect("a contact");
            for f in 0..3 {
                db.execute("INSERT INTO fields (contact_id, value) VALUES (?1, ?2)", (&contact, f * n))
                    .expect("a field");
            }
            db.execute("INSERT OR IGNORE INTO shares VALUES (?1, ?2)", (&contact, (user * 31 + n) % users + 1))
                .expect("a share");
        }
        if user % 3 == 0 {
            let (thumb, full) =
                (noise(user as u64, 3000), noise(user as u64 + 1_000_000, 40_000 + user as usize * 500));
            db.execute("INSERT INTO photos VALUES (?1, ?2, ?3, ?4)", (format!("p{user}"), user, thumb, full))
                .expect("a photo");
        }
        db.execute("INSERT INTO log (user_id, what) VALUES (?1, 'joined')", [user]).expect("a line");
    }
    db.execute_batch(
        "INSERT INTO contacts VALUES ('orphan', 999999, 'nobody', NULL), ('none', NULL, 'nobody', NULL);
        INSERT INTO settings VALUES ('a', 1), ('a', 1), ('b', x'00ff'), (NULL, 1.5);
        COMMIT",
    )
    .expect("commits");
}

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
