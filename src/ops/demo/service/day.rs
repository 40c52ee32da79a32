//! Simulates a day of the service. A few users change a little, which is why nightly backups are cheap.

use rusqlite::{Result, params};

use crate::ops::demo::service::data::Maker;

/// Maximum number of lines in the feed.
const FEED_LINES_MAX: i64 = 20_000;

/// Selects the contact of user `?1` at position `?2`.
const ONE_CONTACT: &str = "(SELECT id FROM contacts WHERE user_id = ?1 ORDER BY id LIMIT 1 OFFSET ?2)";

/// What happened in a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Day {
    /// Users who changed something.
    pub users_active: u64,
    /// Rows that were added, changed and removed, including rows of the feed.
    pub rows_changed: u64,
}

/// Simulates a day.
/// Fails if the database cannot be written.
pub(super) fn live(maker: &mut Maker<'_>) -> Result<Day> {
    let before = maker.conn.total_changes();
    maker.conn.execute_batch("BEGIN")?;
    let users = count(maker, "SELECT coalesce(max(id), 0) FROM users")?;
    let users_active = (users / 25).max(1);
    for _ in 0..users_active {
        let user = 1 + maker.random.below(users) as i64;
        for _ in 0..maker.random.between(1, 4) {
            act(maker, user)?;
        }
    }
    maker.user()?;
    expire(maker)?;
    maker.conn.execute_batch("COMMIT")?;
    Ok(Day { users_active: users_active + 1, rows_changed: maker.conn.total_changes() - before })
}

fn count(maker: &Maker<'_>, sql: &str) -> Result<u64> {
    let count: i64 = maker.conn.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0).max(1))
}

/// One thing that a user does.
fn act(maker: &mut Maker<'_>, user: i64) -> Result<()> {
    match maker.random.below(10) {
        0 | 1 => maker.contact(user),
        2 | 3 => change_contact(maker, user),
        4 => delete_contact(maker, user),
        5 | 6 => add_event(maker, user),
        7 => move_event(maker, user),
        8 => maker.photo(user),
        _ => maker.note(user),
    }
}

fn change_contact(maker: &mut Maker<'_>, user: i64) -> Result<()> {
    let note = maker.random.words(4);
    let which = maker.random.below(10) as i64;
    let sql = format!("UPDATE contacts SET note = ?3, changed_at = ?4 WHERE id = {ONE_CONTACT}");
    maker.conn.prepare_cached(&sql)?.execute(params![user, which, note, maker.now_s])?;
    Ok(())
}

fn delete_contact(maker: &mut Maker<'_>, user: i64) -> Result<()> {
    let which = maker.random.below(10) as i64;
    let sql = format!("DELETE FROM contacts WHERE id = {ONE_CONTACT}");
    maker.conn.prepare_cached(&sql)?.execute(params![user, which])?;
    Ok(())
}

fn add_event(maker: &mut Maker<'_>, user: i64) -> Result<()> {
    let sql = "SELECT id FROM calendars WHERE user_id = ?1 LIMIT 1";
    let calendar = maker.conn.query_row(sql, [user], |row| row.get(0))?;
    maker.event(calendar)
}

fn move_event(maker: &Maker<'_>, user: i64) -> Result<()> {
    let sql = "UPDATE events SET starts_at = starts_at + 3600, ends_at = ends_at + 3600, changed_at = ?2 WHERE id = (SELECT max(e.id) FROM events e JOIN calendars c ON c.id = e.calendar_id WHERE c.user_id = ?1)";
    maker.conn.prepare_cached(sql)?.execute(params![user, maker.now_s])?;
    Ok(())
}

fn expire(maker: &Maker<'_>) -> Result<()> {
    let sql = "DELETE FROM change_feed WHERE seq <= (SELECT max(seq) FROM change_feed) - ?1";
    maker.conn.prepare_cached(sql)?.execute([FEED_LINES_MAX])?;
    Ok(())
}
