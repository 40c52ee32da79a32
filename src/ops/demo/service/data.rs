//! The schema of the service, and how its rows are made.

use rusqlite::{Connection, Result, params};

use crate::ops::demo::service::random::Random;

/// Users, their data, and a feed that triggers write to.
pub(super) const SCHEMA: &str = "
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, created_at INTEGER NOT NULL, avatar_id TEXT REFERENCES photos (id) ON DELETE SET NULL);
CREATE TABLE contacts (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, given_name TEXT, family_name TEXT, note TEXT, changed_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE contact_fields (id INTEGER PRIMARY KEY, contact_id TEXT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE, kind TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE calendars (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, title TEXT NOT NULL);
CREATE TABLE calendar_shares (calendar_id INTEGER NOT NULL REFERENCES calendars (id) ON DELETE CASCADE, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, PRIMARY KEY (calendar_id, user_id)) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, calendar_id INTEGER NOT NULL REFERENCES calendars (id) ON DELETE CASCADE, title TEXT NOT NULL, starts_at INTEGER NOT NULL, ends_at INTEGER NOT NULL, latitude REAL, changed_at INTEGER NOT NULL);
CREATE TABLE photos (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, taken_at INTEGER, thumbnail BLOB NOT NULL, preview BLOB);
CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, body TEXT NOT NULL, changed_at INTEGER NOT NULL);
CREATE TABLE change_feed (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, op TEXT NOT NULL, object TEXT NOT NULL, changed_at INTEGER NOT NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;
CREATE INDEX contacts_by_user ON contacts (user_id);
CREATE INDEX fields_by_contact ON contact_fields (contact_id);
CREATE INDEX calendars_by_user ON calendars (user_id);
CREATE INDEX shares_by_user ON calendar_shares (user_id);
CREATE INDEX events_by_calendar ON events (calendar_id, starts_at);
CREATE INDEX photos_by_user ON photos (user_id);
CREATE INDEX notes_by_user ON notes (user_id);
CREATE VIEW address_book AS SELECT c.user_id, c.given_name || ' ' || c.family_name AS name, f.kind, f.value FROM contacts c JOIN contact_fields f ON f.contact_id = c.id;
CREATE TRIGGER contact_added AFTER INSERT ON contacts BEGIN INSERT INTO change_feed (user_id, op, object, changed_at) VALUES (new.user_id, 'add', 'contact ' || new.id, new.changed_at); END;
CREATE TRIGGER contact_changed AFTER UPDATE ON contacts BEGIN INSERT INTO change_feed (user_id, op, object, changed_at) VALUES (new.user_id, 'change', 'contact ' || new.id, new.changed_at); END;
CREATE TRIGGER contact_removed AFTER DELETE ON contacts BEGIN INSERT INTO change_feed (user_id, op, object, changed_at) VALUES (old.user_id, 'remove', 'contact ' || old.id, old.changed_at); END;
PRAGMA user_version = 7;
";

/// Makes rows of users. Their time is `now_s`, in seconds since 1970.
pub(super) struct Maker<'a> {
    pub(super) conn: &'a Connection,
    pub(super) random: &'a mut Random,
    pub(super) now_s: i64,
}

impl Maker<'_> {
    /// Adds a user with data as it collects over the years.
    /// Returns the user's id.
    /// Fails if the database cannot be written.
    pub(super) fn user(&mut self) -> Result<i64> {
        let user = self.new_user()?;
        for _ in 0..self.random.between(10, 60) {
            self.contact(user)?;
        }
        for title in ["Home", "Work"] {
            self.calendar(user, title)?;
        }
        for _ in 0..self.random.between(2, 14) {
            self.photo(user)?;
        }
        for _ in 0..self.random.between(0, 10) {
            self.note(user)?;
        }
        self.choose_avatar(user)?;
        Ok(user)
    }

    fn calendar(&mut self, user: i64, title: &str) -> Result<()> {
        let sql = "INSERT INTO calendars (user_id, title) VALUES (?1, ?2)";
        self.conn.prepare_cached(sql)?.execute(params![user, title])?;
        let calendar = self.conn.last_insert_rowid();
        for _ in 0..self.random.between(10, 60) {
            self.event(calendar)?;
        }
        if user > 1 && self.random.below(4) == 0 {
            self.share(calendar, user)?;
        }
        Ok(())
    }

    /// Shares a calendar with a user who was added before its user.
    fn share(&mut self, calendar: i64, user: i64) -> Result<()> {
        let other = 1 + self.random.below(user as u64 - 1) as i64;
        let sql = "INSERT INTO calendar_shares VALUES (?1, ?2)";
        self.conn.prepare_cached(sql)?.execute(params![calendar, other])?;
        Ok(())
    }

    fn choose_avatar(&self, user: i64) -> Result<()> {
        let sql = "UPDATE users SET avatar_id = (SELECT id FROM photos WHERE user_id = ?1 LIMIT 1) WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute([user])?;
        Ok(())
    }

    fn new_user(&mut self) -> Result<i64> {
        let given = self.random.given_name();
        let family = self.random.family_name();
        let created_at = self.now_s - self.random.below(100_000_000) as i64;
        let sql = "INSERT INTO users (email, name, created_at) VALUES ((SELECT coalesce(max(id), 0) + 1 FROM users) || ?1, ?2, ?3)";
        let email = format!(".{given}.{family}@example.org").to_lowercase();
        self.conn.prepare_cached(sql)?.execute(params![email, format!("{given} {family}"), created_at])?;
        Ok(self.conn.last_insert_rowid())
    }

    /// Adds a contact of the user.
    /// Fails if the database cannot be written.
    pub(super) fn contact(&mut self, user: i64) -> Result<()> {
        let id = self.random.id();
        let given = self.random.given_name();
        let family = self.random.family_name();
        let note = (self.random.below(5) == 0).then(|| self.random.words(6));
        let sql = "INSERT INTO contacts VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.conn.prepare_cached(sql)?.execute(params![id, user, given, family, note, self.now_s])?;
        for _ in 0..self.random.between(1, 4) {
            let (kind, value) = match self.random.below(3) {
                0 => ("mail", format!("{given}.{family}{}@example.com", self.random.below(1000)).to_lowercase()),
                1 => ("phone", self.random.phone()),
                _ => ("address", format!("{} {}", self.random.words(2), self.random.below(200))),
            };
            let sql = "INSERT INTO contact_fields (contact_id, kind, value) VALUES (?1, ?2, ?3)";
            self.conn.prepare_cached(sql)?.execute(params![id, kind, value])?;
        }
        Ok(())
    }

    /// Adds an event to the calendar.
    /// Fails if the database cannot be written.
    pub(super) fn event(&mut self, calendar: i64) -> Result<()> {
        let words = self.random.between(2, 5);
        let title = self.random.words(words);
        let starts_at = self.now_s - 20_000_000 + self.random.below(40_000) as i64 * 900;
        let ends_at = starts_at + self.random.between(1, 8) as i64 * 1800;
        let latitude = (self.random.below(3) == 0).then(|| 48.0 + self.random.below(1_000_000) as f64 / 300_000.0);
        let sql = "INSERT INTO events (calendar_id, title, starts_at, ends_at, latitude, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![calendar, title, starts_at, ends_at, latitude, self.now_s];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Adds a photo of the user.
    /// Fails if the database cannot be written.
    pub(super) fn photo(&mut self, user: i64) -> Result<()> {
        let id = self.random.id();
        let thumbnail_len = self.random.between(2000, 6000);
        let preview_len = self.random.between(40_000, 160_000);
        let thumbnail = self.random.noise(thumbnail_len);
        // Only photos that somebody has looked at have previews.
        let preview = (self.random.below(6) == 0).then(|| self.random.noise(preview_len));
        let taken_at = self.now_s - self.random.below(50_000_000) as i64;
        let sql = "INSERT INTO photos VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute(params![id, user, taken_at, thumbnail, preview])?;
        Ok(())
    }

    /// Adds a note of the user.
    /// Fails if the database cannot be written.
    pub(super) fn note(&mut self, user: i64) -> Result<()> {
        let words = self.random.between(5, 150);
        let body = self.random.words(words);
        let sql = "INSERT INTO notes (user_id, body, changed_at) VALUES (?1, ?2, ?3)";
        self.conn.prepare_cached(sql)?.execute(params![user, body, self.now_s])?;
        Ok(())
    }
}
