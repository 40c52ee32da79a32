//! Databases for tests: a small service with users, their data, and photos.

use std::path::Path;

use rusqlite::Connection;

/// Three levels of ownership, a table without rowids, one without owners, and one with large values.
pub const SERVICE: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, note TEXT);
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE, name VARCHAR(10), born INT);
    CREATE TABLE fields (contact_id INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE, kind TEXT NOT NULL, value, PRIMARY KEY (contact_id, kind)) WITHOUT ROWID;
    CREATE TABLE photos (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), thumb BLOB, full BLOB);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE INDEX contacts_user ON contacts (user_id);
";

/// Opens a database whose writes need not survive a crash of the machine.
pub fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF").expect("settings");
    db
}

/// Incompressible bytes derived from `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A number below `limit`, derived from `seed`.
pub fn draw(seed: i64, limit: i64) -> i64 {
    i64::from_le_bytes(*noise(seed as u64, 8).first_chunk().expect("8 bytes")).rem_euclid(limit)
}

/// A database of the service with `users` users, about four contacts each, three fields per contact, and a photo for
/// every tenth user.
pub fn create_service(path: &Path, users: i64) -> Connection {
    let db = open(path);
    db.execute_batch(SERVICE).expect("a schema");
    db.execute_batch("BEGIN").expect("begins");
    for user in 1..=users {
        let note = (user % 5 == 0).then(|| format!("note of {user}"));
        db.execute("INSERT INTO users VALUES (?1, ?2, ?3)", (user, format!("u{user}@example.org"), note))
            .expect("a user");
        for n in 0..draw(user, 9) {
            let contact = user * 100 + n;
            db.execute(
                "INSERT INTO contacts VALUES (?1, ?2, ?3, ?4)",
                (contact, user, format!("name {n} of {user}"), 1900 + draw(contact, 100)),
            )
            .expect("a contact");
            for kind in ["mail", "phone", "street"] {
                let value = draw(contact + kind.len() as i64, 1 << 40);
                db.execute("INSERT INTO fields VALUES (?1, ?2, ?3)", (contact, kind, value)).expect("a field");
            }
        }
        if user % 10 == 0 {
            add_photo(&db, user, 33_000 + 200 * user as usize);
        }
    }
    db.execute_batch("INSERT INTO settings VALUES ('theme', 'dark'), ('limit', 7); COMMIT").expect("commits");
    db
}

/// Adds a photo of `user` with `bytes` bytes, and its thumbnail.
pub fn add_photo(db: &Connection, user: i64, bytes: usize) {
    let (thumb, full) = (noise(user as u64, 900), noise(user as u64 + (1 << 32), bytes));
    db.execute("INSERT INTO photos (user_id, thumb, full) VALUES (?1, ?2, ?3)", (user, thumb, full)).expect("a photo");
}

/// Copies the current database file.
pub fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
}

/// A table of rows of 6,000 bytes that do not compress: its tree has more than one level of nodes.
pub fn add_tall_table(db: &Connection) {
    db.execute_batch("CREATE TABLE tall (id INTEGER PRIMARY KEY, body BLOB); BEGIN").expect("a table");
    for id in 0..1100_i64 {
        db.execute("INSERT INTO tall VALUES (?1, ?2)", (id, noise(id as u64, 6000))).expect("a row");
    }
    db.execute_batch("COMMIT").expect("commits");
}

/// A service whose users have notes of about 1.5 MB together, with words that many share and one secret each.
pub fn create_notes(path: &Path, users: u32) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch(&format!(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT NOT NULL);
        CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users, title TEXT, body TEXT);
        WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {users})
            INSERT INTO users SELECT v, 'user' || v || '@mail.example.org' FROM n;
        WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 7000)
            INSERT INTO notes SELECT v, v % {users} + 1,
                CASE v % 3 WHEN 0 THEN 'Shopping list for the weekend' WHEN 1 THEN 'Minutes of the meeting' ELSE 'To do' END,
                'Please remember to bring the following things: ' || hex(v * 7919 % 10007) || ', and do not forget the '
                || CASE v % 4 WHEN 0 THEN 'umbrella' WHEN 1 THEN 'presents' ELSE 'tickets' END
                || '. My secret is SECRET-' || hex((v % {users}) * 2654435761 % 4294967291 || 'x') || ' and nothing else.'
            FROM n;"
    ))
    .expect("fills");
    db
}
