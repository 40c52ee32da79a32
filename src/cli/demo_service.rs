//! The small sync service of `sidekeep demo`: users with contacts, events and photos in an SQLite file. Its people are
//! drawn from a seed, so that every demo is the same.

use std::path::Path;

use rusqlite::{Connection, Result, params};

use crate::base::env::{Env, Seeded, random};

const USERS: u64 = 250;
const GIVEN: [&str; 12] = ["Ana", "Bo", "Carla", "Dina", "Emil", "Fay", "Goran", "Hana", "Ivo", "June", "Karim", "Lea"];
const FAMILY: [&str; 12] =
    ["Abe", "Berg", "Costa", "Dahl", "Evans", "Fuchs", "Green", "Haas", "Ito", "Jansen", "Kim", "Lopez"];
const PLANS: [&str; 6] = ["dentist", "dinner", "flight", "swimming", "rent is due", "call mother"];

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE);
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name TEXT NOT NULL, phone TEXT);
    CREATE TABLE events (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        title TEXT NOT NULL, day INTEGER NOT NULL);
    CREATE TABLE photos (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        name TEXT NOT NULL, image BLOB NOT NULL);
    CREATE INDEX contacts_by_user ON contacts (user_id);
    CREATE INDEX events_by_user ON events (user_id);
    CREATE INDEX photos_by_user ON photos (user_id);";

/// How much the service holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub(crate) struct Holdings {
    pub(crate) users: u64,
    pub(crate) contacts: u64,
    /// Contacts that have lost their phone number.
    pub(crate) contacts_without_phone: u64,
    pub(crate) events: u64,
    pub(crate) photos: u64,
}

/// What is in the database at `path`.
pub(crate) fn holdings(path: &Path) -> Result<Holdings> {
    let database = Connection::open(path)?;
    let count = |what: &str| {
        database
            .query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
    };
    Ok(Holdings {
        users: count("users")?,
        contacts: count("contacts")?,
        contacts_without_phone: count("contacts WHERE phone IS NULL")?,
        events: count("events")?,
        photos: count("photos")?,
    })
}

/// The running service.
pub(crate) struct Service {
    database: Connection,
    chance: Seeded,
}

impl Service {
    /// Opens for business.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let database = Connection::open(path)?;
        database.execute_batch(SCHEMA)?;
        let mut service = Self { database, chance: Seeded::new(2009) };
        service.in_one(|service| {
            for user in 1..=USERS {
                let name = service.name();
                let email = format!("{}.{user}@example.org", name.replace(' ', ".").to_lowercase());
                service
                    .database
                    .execute("INSERT INTO users VALUES (?1, ?2, ?3)", params![user.cast_signed(), name, email])?;
                for _ in 0..10 + service.below(20) {
                    service.add_contact(user)?;
                }
                for _ in 0..service.below(12) {
                    service.add_event(user, 0)?;
                }
                service.add_photo(user)?;
            }
            Ok(())
        })?;
        Ok(service)
    }

    /// A day on which some users add and change a little.
    pub(crate) fn live_a_day(&mut self, day: u64) -> Result<()> {
        self.in_one(|service| {
            for _ in 0..USERS / 10 {
                let user = 1 + service.below(USERS);
                service.add_contact(user)?;
                service.add_event(user, day)?;
                let phone = service.phone();
                service.database.execute(
                    "UPDATE contacts SET phone = ?2 WHERE id = (SELECT max(id) FROM contacts WHERE user_id = ?1)",
                    params![user.cast_signed(), phone],
                )?;
                if service.below(4) == 0 {
                    service.add_photo(user)?;
                }
            }
            Ok(())
        })
    }

    /// An upgrade goes wrong: it drops the contacts of every third user and empties the phone numbers of others.
    pub(crate) fn break_down(&mut self) -> Result<()> {
        self.database.execute_batch(
            "DELETE FROM contacts WHERE user_id % 3 = 0; UPDATE contacts SET phone = NULL WHERE user_id % 7 = 1;",
        )
    }

    fn in_one(&mut self, work: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.database.execute_batch("BEGIN")?;
        work(self)?;
        self.database.execute_batch("COMMIT")
    }

    fn add_contact(&self, user: u64) -> Result<()> {
        let sql = "INSERT INTO contacts (user_id, name, phone) VALUES (?1, ?2, ?3)";
        self.database.execute(sql, params![user.cast_signed(), self.name(), self.phone()]).map(drop)
    }

    fn add_event(&self, user: u64, day: u64) -> Result<()> {
        let sql = "INSERT INTO events (user_id, title, day) VALUES (?1, ?2, ?3)";
        self.database
            .execute(sql, params![user.cast_signed(), self.one_of(&PLANS), (day + self.below(90)).cast_signed()])
            .map(drop)
    }

    fn add_photo(&self, user: u64) -> Result<()> {
        // Images do not compress, and neither do random bytes.
        let len = usize::try_from(34_000 + self.below(30_000)).unwrap_or(34_000);
        let mut image = vec![0; len];
        self.chance.fill(&mut image);
        let sql = "INSERT INTO photos (user_id, name, image) VALUES (?1, ?2, ?3)";
        self.database
            .execute(sql, params![user.cast_signed(), format!("IMG_{:04}.jpg", self.below(10_000)), image])
            .map(drop)
    }

    fn name(&self) -> String {
        format!("{} {}", self.one_of(&GIVEN), self.one_of(&FAMILY))
    }

    fn phone(&self) -> String {
        format!("+1 555 {:07}", self.below(10_000_000))
    }

    fn one_of(&self, words: &[&'static str]) -> &'static str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap_or(0)]
    }

    fn below(&self, n: u64) -> u64 {
        u64::from_le_bytes(random(&self.chance)) % n
    }
}

#[cfg(test)]
mod tests {
    use super::{Service, USERS, holdings};

    #[test]
    fn days_add_and_the_breakdown_takes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let mut service = Service::create(&path).expect("makes");
        let first = holdings(&path).expect("counts");
        assert_eq!((first.users, first.photos, first.contacts_without_phone), (USERS, USERS, 0));
        service.live_a_day(1).expect("lives");
        let second = holdings(&path).expect("counts");
        assert!(second.contacts > first.contacts && second.events > first.events);
        service.break_down().expect("breaks");
        let last = holdings(&path).expect("counts");
        assert!(last.contacts < first.contacts * 4 / 5 && last.contacts_without_phone > 0);
        let again = dir.path().join("b.db");
        Service::create(&again).expect("makes");
        assert_eq!(holdings(&again).expect("counts"), first);
    }
}
