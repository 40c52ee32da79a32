//! A service's database with awkward data: orphans, identical rows without a key, keys that are streams, a cycle of
//! foreign keys, an empty table.

use rusqlite::Connection;

use super::data::noise;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, avatar TEXT REFERENCES photos (id) ON DELETE SET NULL);
CREATE TABLE photos (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), thumb BLOB, full BLOB);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), name TEXT, note TEXT);
CREATE TABLE fields (id INTEGER PRIMARY KEY, contact_id TEXT REFERENCES contacts (id), value);
CREATE TABLE shares (contact_id TEXT REFERENCES contacts (id), user_id INTEGER REFERENCES users (id), PRIMARY KEY (contact_id, user_id)) WITHOUT ROWID;
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id), what TEXT);
CREATE TABLE settings (name TEXT, value);
CREATE TABLE empty (id INTEGER PRIMARY KEY);
CREATE TABLE pages (title TEXT PRIMARY KEY, body TEXT);
CREATE INDEX contacts_user ON contacts (user_id);
";

/// Fills a database with owners, rows without owners, orphans, duplicates, streams and keys that are streams.
pub fn fill(db: &Connection, users: i64) {
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
        if user % 10 == 0 {
            let (thumb, full) = (noise(user as u64, 900), noise(user as u64 + 1_000_000, 33_000 + user as usize * 700));
            db.execute("INSERT INTO photos VALUES (?1, ?2, ?3, ?4)", (format!("p{user}"), user, thumb, full))
                .expect("a photo");
        }
        db.execute("INSERT INTO log (user_id, what) VALUES (?1, 'joined')", [user]).expect("a line");
    }
    db.execute("INSERT INTO pages VALUES (?1, 'x'), (?2, NULL)", ("k".repeat(40_000), "k".repeat(300)))
        .expect("long keys");
    db.execute_batch(
        "INSERT INTO contacts VALUES ('orphan', 999999, 'nobody', NULL), ('none', NULL, 'nobody', NULL);
        INSERT INTO settings VALUES ('a', 1), ('a', 1), ('b', x'00ff'), (NULL, 1.5);
        COMMIT",
    )
    .expect("commits");
}

/// The changes of one day.
pub fn day(db: &Connection, n: i64) {
    db.execute("UPDATE contacts SET note = ?2 WHERE user_id = 13 + ?1", (n, format!("note {n}"))).expect("a note");
    db.execute("UPDATE photos SET full = ?1 WHERE id = 'p30'", [noise(n as u64 + 5_000_000, 70_000)]).expect("a photo");
    db.execute("DELETE FROM log WHERE seq < ?1", [n * 5]).expect("expires");
    db.execute("INSERT INTO log (user_id, what) VALUES (13, ?1)", [format!("day {n}")]).expect("a line");
    db.execute("INSERT INTO users VALUES (?1, ?2, NULL)", (10_000 + n, format!("new{n}@example.org"))).expect("a user");
    db.execute("DELETE FROM users WHERE id = ?1", [n * 7]).expect("a user leaves");
}
