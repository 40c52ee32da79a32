//! The types of users' own making that columns have, and whether one was altered since the image began.
//!
//! No lock of ours keeps a type. A server writes values by its types as they are now, while schema and catalog are the
//! image's: a label that was renamed in between is in the rows, and the schema does not know it.

use std::collections::{HashMap, HashSet};

use crate::engine::contract::Gap;
use crate::engine::postgres::backup::image::PgImage;
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::identifier::readable_text;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::schema::table::{PgTable, qualified};

/// Tables named in one gap.
const NAMES_MAX: usize = 8;

/// Types that columns of these tables have, and those that are in these; who has each. A multirange knows its range
/// since version 14.
const USED: &str = "WITH RECURSIVE used (root, type) AS (
        SELECT DISTINCT atttypid, atttypid FROM pg_catalog.pg_attribute
            WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
        UNION SELECT root, within.type FROM used, LATERAL (
            SELECT typelem FROM pg_catalog.pg_type WHERE oid = used.type
            UNION ALL SELECT typbasetype FROM pg_catalog.pg_type WHERE oid = used.type
            UNION ALL SELECT rngsubtype FROM pg_catalog.pg_range WHERE rngtypid = used.type
            UNION ALL SELECT rngtypid FROM pg_catalog.pg_range AS r
                WHERE (pg_catalog.to_jsonb(r)->>'rngmultitypid')::oid = used.type
            UNION ALL SELECT atttypid FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type AS t ON attrelid = typrelid
                WHERE t.oid = used.type AND attnum > 0 AND NOT attisdropped
        ) AS within (type) WHERE within.type <> 0)
    SELECT type, pg_catalog.array_agg(DISTINCT attrelid) FROM used JOIN pg_catalog.pg_attribute ON atttypid = root
    WHERE type >= 16384 AND attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped GROUP BY type ORDER BY type";

/// What is to be said of these types, a fact a row: the type, whether it bears on how values are written, and a digest.
/// A label has its transaction with it, which tells one that was renamed there and back. A label that is added does no
/// harm to values from before; an attribute does, since each value shows all of them.
const FACTS: &str = "SELECT t.oid, false, pg_catalog.hashtextextended(pg_catalog.format('%s %s', nspname, typname), 0)
        FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = typnamespace WHERE t.oid = ANY ($1::oid[])
    UNION ALL SELECT oid, true, pg_catalog.hashtextextended(
            pg_catalog.format('%s %s %s', typoutput::oid, typsend::oid, typbasetype), 0)
        FROM pg_catalog.pg_type WHERE oid = ANY ($1::oid[])
    UNION ALL SELECT enumtypid, true, pg_catalog.hashtextextended(pg_catalog.format('%s %s %s', oid, xmin, enumlabel), 0)
        FROM pg_catalog.pg_enum WHERE enumtypid = ANY ($1::oid[])
    UNION ALL SELECT t.oid, of_values, pg_catalog.hashtextextended(pg_catalog.string_agg(CASE WHEN of_values
            THEN pg_catalog.format('%s %s %s', attnum, atttypid, attisdropped) ELSE attname::text END, ',' ORDER BY attnum), 0)
        FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_attribute ON attrelid = typrelid, (VALUES (true), (false)) AS v (of_values)
        WHERE t.oid = ANY ($1::oid[]) AND attnum > 0 GROUP BY t.oid, of_values";

/// What of a type counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aspect {
    /// How its values are written.
    Values,
    /// What it and its parts are called, too.
    Definition,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Fact {
    of: u32,
    /// Else of names alone.
    is_of_values: bool,
    digest: i64,
}

/// The types, as the image has them.
pub(crate) struct UserTypes {
    used: Vec<UserType>,
    then: Vec<Fact>,
}

struct UserType {
    oid: u32,
    name: String,
    /// Those that have columns of it.
    tables: Vec<String>,
}

impl UserTypes {
    /// The types of these tables' columns; `leader` sees the image.
    pub(crate) fn of(leader: &Client, tables: &[PgTable]) -> Result<Self, PostgresError> {
        let oid = |table: &PgTable| u32::try_from(table.table.oid?).ok();
        let names: HashMap<u32, &str> =
            tables.iter().filter_map(|table| Some((oid(table)?, table.table.name.as_str()))).collect();
        let relations: Vec<u32> = names.keys().copied().collect();
        let found = leader.query("listing the types of columns", USED, &[&relations])?;
        let oids: Vec<u32> = found.iter().map(|row| row.get(0)).collect();
        let sql = format!(
            "SELECT t.oid, {}, {} FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = typnamespace
            WHERE t.oid = ANY ($1::oid[])",
            readable_text("nspname"),
            readable_text("typname")
        );
        let called = leader.query("asking for the names of types", &sql, &[&oids])?;
        let called: HashMap<u32, String> =
            called.iter().map(|row| (row.get(0), qualified(row.get(1), row.get(2)))).collect();
        let one = |row: &tokio_postgres::Row| {
            let (oid, relations): (u32, Vec<u32>) = (row.get(0), row.get(1));
            let mut tables: Vec<String> =
                relations.iter().filter_map(|oid| names.get(oid)).map(|name| (*name).to_owned()).collect();
            tables.sort();
            UserType { oid, name: called.get(&oid).cloned().unwrap_or_else(|| oid.to_string()), tables }
        };
        let used = found.iter().map(one).collect();
        Ok(Self { used, then: facts(leader, &oids)? })
    }

    /// Names of those that were altered since the image began.
    pub(crate) fn altered(
        &self,
        image: &PgImage,
        watch: &LockWatchdog,
        aspect: Aspect,
    ) -> Result<Vec<String>, PostgresError> {
        Ok(self.changed(image, watch, aspect)?.into_iter().map(|of| of.name.clone()).collect())
    }

    /// What rows that were read until now may have in them that the schema does not know.
    pub(crate) fn gaps(&self, image: &PgImage, watch: &LockWatchdog) -> Result<Vec<Gap>, PostgresError> {
        let gap = |of: &UserType| Gap {
            object: format!("type {}", of.name),
            reason: format!(
                "it was altered while rows were read: those of {} may have values in its new form, which the schema of \
                 this snapshot does not know and a restore may refuse; the next backup has both alike",
                listed(&of.tables)
            ),
        };
        Ok(self.changed(image, watch, Aspect::Values)?.into_iter().map(gap).collect())
    }

    fn changed(&self, image: &PgImage, watch: &LockWatchdog, aspect: Aspect) -> Result<Vec<&UserType>, PostgresError> {
        if self.used.is_empty() {
            return Ok(Vec::new());
        }
        let oids: Vec<u32> = self.used.iter().map(|of| of.oid).collect();
        // The watch has a session outside of the image; it may have lost it.
        let now = facts(watch.client(), &oids).or_else(|_| facts(&connect(image.address())?, &oids))?;
        let now: HashSet<Fact> = now.into_iter().collect();
        let counts = |fact: &&Fact| aspect == Aspect::Definition || fact.is_of_values;
        let gone: HashSet<u32> =
            self.then.iter().filter(counts).filter(|fact| !now.contains(fact)).map(|fact| fact.of).collect();
        Ok(self.used.iter().filter(|of| gone.contains(&of.oid)).collect())
    }
}

fn facts(client: &Client, oids: &[u32]) -> Result<Vec<Fact>, PostgresError> {
    let rows = client.query("asking how types are", FACTS, &[&oids])?;
    Ok(rows.iter().map(|row| Fact { of: row.get(0), is_of_values: row.get(1), digest: row.get(2) }).collect())
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
