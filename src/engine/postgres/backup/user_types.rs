//! User-defined types of columns, and whether one was altered since the image began.
//!
//! Our table locks do not protect types. A server writes values by its types as of now, while schema and catalog are as
//! of the image. A label that was renamed in between appears in the rows, but not in the schema.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;

use crate::base::finding::{Finding, FindingKind};
use crate::engine::postgres::backup::image::PgImage;
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::name_list::abbreviated;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::identifier::readable_text;
use crate::engine::postgres::connect::login::connect;
use crate::engine::postgres::schema::table::{PgTable, qualified};

/// User-defined types that columns of these tables have, directly or nested, and the tables that use each. Multiranges
/// exist since version 14.
const USED_TYPES: &str = "WITH RECURSIVE used (root, type) AS (
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

/// Facts about these types, one per row: the type, whether the fact affects how values are written, and a digest. A
/// label's digest includes its transaction id, which reveals a label that was renamed and renamed back. Adding a label
/// does not affect earlier values. Adding an attribute does, because each value shows all attributes.
const TYPE_FACTS: &str = "SELECT t.oid, false, pg_catalog.hashtextextended(pg_catalog.format('%s %s', nspname, typname), 0)
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

/// Which alterations of a type matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aspect {
    /// Alterations that affect how values are written.
    Values,
    /// Alterations of its name and its parts' names, too.
    Definition,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct TypeFact {
    type_oid: u32,
    /// False if the fact concerns only names.
    is_of_values: bool,
    digest: i64,
}

/// The user-defined types as of the image.
pub(super) struct UserTypes {
    used: Vec<UserType>,
    facts: Vec<TypeFact>,
}

struct UserType {
    oid: u32,
    name: String,
    /// Tables that have columns of this type.
    tables: Vec<String>,
}

impl UserTypes {
    /// The types of these tables' columns. `leader` must see the image.
    /// Fails if a query fails.
    pub(super) fn load(leader: &Client, tables: &[PgTable]) -> Result<Self, PostgresError> {
        let tables = tables_by_oid(tables);
        let relations: Vec<u32> = tables.keys().copied().collect();
        let found = leader.query("listing the types of columns", USED_TYPES, &[&relations])?;
        let oids: Vec<u32> = found.iter().map(|row| row.get(0)).collect();
        let names = type_names(leader, &oids)?;
        let used = found.iter().map(|row| UserType::of(row, &names, &tables)).collect();
        let facts = type_facts(leader, &oids)?;
        Ok(Self { used, facts })
    }

    /// Names of the types that were altered since the image began.
    /// Fails if a query fails in the watchdog's session and in a new one.
    pub(super) fn altered(
        &self,
        image: &PgImage,
        watchdog: &LockWatchdog,
        aspect: Aspect,
    ) -> Result<Vec<String>, PostgresError> {
        let altered = self.altered_types(image, watchdog, aspect)?;
        Ok(altered.into_iter().map(|altered| altered.name.clone()).collect())
    }

    /// One gap per type whose values may differ from the schema in rows read so far.
    /// Fails as [`UserTypes::altered`] does.
    pub(super) fn gaps(&self, image: &PgImage, watchdog: &LockWatchdog) -> Result<Vec<Finding>, PostgresError> {
        Ok(self.altered_types(image, watchdog, Aspect::Values)?.into_iter().map(UserType::gap).collect())
    }

    fn altered_types(
        &self,
        image: &PgImage,
        watchdog: &LockWatchdog,
        aspect: Aspect,
    ) -> Result<Vec<&UserType>, PostgresError> {
        if self.used.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.facts_now(image, watchdog)?;
        let gone = self.facts.iter().filter(|fact| fact.counts_for(aspect) && !now.contains(fact));
        let altered: HashSet<u32> = gone.map(|fact| fact.type_oid).collect();
        Ok(self.used.iter().filter(|used| altered.contains(&used.oid)).collect())
    }

    /// Facts as of now, outside of the image.
    fn facts_now(&self, image: &PgImage, watchdog: &LockWatchdog) -> Result<HashSet<TypeFact>, PostgresError> {
        let oids: Vec<u32> = self.used.iter().map(|used| used.oid).collect();
        let facts = match type_facts(watchdog.client(), &oids) {
            Ok(facts) => facts,
            // The watchdog may have lost its session.
            Err(_) => type_facts(&connect(image.address())?, &oids)?,
        };
        Ok(facts.into_iter().collect())
    }
}

impl UserType {
    fn of(row: &Row, names: &HashMap<u32, String>, tables: &HashMap<u32, &str>) -> Self {
        let oid: u32 = row.get(0);
        let name = names.get(&oid).cloned().unwrap_or_else(|| oid.to_string());
        Self { oid, name, tables: names_of(row.get(1), tables) }
    }

    fn gap(&self) -> Finding {
        let reason = format!(
            "it was altered while rows were read: rows of {} may have values in its new form, which the schema of \
             this snapshot does not define and a restore may refuse; in the next backup, rows and schema will match",
            abbreviated(&self.tables)
        );
        let kind = FindingKind::AlteredType { tables: self.tables.clone() };
        Finding::new(kind, format!("type {}", self.name), reason)
    }
}

impl TypeFact {
    fn of(row: &Row) -> Self {
        Self { type_oid: row.get(0), is_of_values: row.get(1), digest: row.get(2) }
    }

    fn counts_for(&self, aspect: Aspect) -> bool {
        aspect == Aspect::Definition || self.is_of_values
    }
}

fn names_of(relations: Vec<u32>, tables: &HashMap<u32, &str>) -> Vec<String> {
    let found = relations.iter().filter_map(|relation| tables.get(relation));
    let mut names: Vec<String> = found.map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

fn tables_by_oid(tables: &[PgTable]) -> HashMap<u32, &str> {
    let mut by_oid = HashMap::new();
    for PgTable { described, .. } in tables {
        if let Some(Ok(oid)) = described.oid.map(u32::try_from) {
            by_oid.insert(oid, described.name.as_str());
        }
    }
    by_oid
}

fn type_names(client: &Client, oids: &[u32]) -> Result<HashMap<u32, String>, PostgresError> {
    let sql = format!(
        "SELECT t.oid, {}, {} FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = typnamespace
        WHERE t.oid = ANY ($1::oid[])",
        readable_text("nspname"),
        readable_text("typname")
    );
    let name = |row: &Row| (row.get(0), qualified(row.get(1), row.get(2)));
    let found = client.query_as("asking for the names of types", &sql, &[&oids], name)?;
    Ok(found.into_iter().collect())
}

fn type_facts(client: &Client, oids: &[u32]) -> Result<Vec<TypeFact>, PostgresError> {
    client.query_as("reading the definitions of types", TYPE_FACTS, &[&oids], TypeFact::of)
}
