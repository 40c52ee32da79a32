//! Large objects. They are created empty, then their pages are loaded, then their owners and privileges are set.
//!
//! Pages are written at their original offsets, so that holes stay holes. A transaction creates only a few hundred
//! objects, because each of them takes a lock.

use tokio_postgres::types::ToSql;

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::restore::items::{RefusalPolicy, run_item};
use crate::engine::postgres::restore::options::Owners;
use crate::engine::postgres::restore::restore_progress::{DoneParts, RestorePart};
use crate::engine::postgres::restore::script::{ScriptItem, ScriptStep};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::document::{GrantOption, Label, LargeObject, Privilege, Purpose};
use crate::format::cell::Cell;

/// Number of objects in one transaction.
const OBJECTS_PER_ITEM: usize = 200;
/// Number of pages that one statement writes.
const PAGES_MAX: usize = 1000;
/// Bytes per page on servers with the usual block size.
pub(super) const LARGE_OBJECT_PAGE: u32 = 2048;

/// Creates all objects, empty.
/// Fails as [`run_item`] does.
pub(super) fn create_empty(
    session: &TargetSession,
    done: &DoneParts,
    objects: &[LargeObject],
) -> Result<(), EngineError> {
    run_for_all(session, done, RestorePart::LargeObjects, objects, &create_sql)
}

fn create_sql(object: &LargeObject) -> Vec<String> {
    vec![format!("SELECT pg_catalog.lo_create({});", object.oid)]
}

/// Decides which owners and grantees are restored.
pub(super) struct WantedRoles {
    pub(super) owners: Owners,
    /// All roles of the server.
    pub(super) existing: Vec<String>,
}

impl WantedRoles {
    fn has_owners(&self) -> bool {
        self.owners == Owners::Restore
    }

    fn has_grantee(&self, grantee: Option<&String>) -> bool {
        match grantee {
            Some(role) => self.has_owners() || self.existing.contains(role),
            None => true,
        }
    }
}

/// Restores owners, comments, security labels and privileges.
/// Fails as [`run_item`] does.
pub(super) fn restore_rights(
    session: &TargetSession,
    done: &DoneParts,
    objects: &[LargeObject],
    roles: &WantedRoles,
) -> Result<(), EngineError> {
    run_for_all(session, done, RestorePart::LargeObjectRights, objects, &|object| rights_sql(object, roles))
}

fn rights_sql(object: &LargeObject, roles: &WantedRoles) -> Vec<String> {
    let oid = object.oid;
    let mut sql = Vec::new();
    if let Some(comment) = &object.comment {
        sql.push(format!("COMMENT ON LARGE OBJECT {oid} IS {};", literal(comment)));
    }
    if roles.has_owners() {
        push_owner(&mut sql, object);
    }
    if let Some(grants) = &object.grants {
        push_grants(&mut sql, object, grants, roles);
    }
    sql
}

fn label_sql(oid: u32, label: &Label) -> String {
    let provider = quote_identifier(&label.provider);
    let text = literal(&label.label);
    format!("SECURITY LABEL FOR {provider} ON LARGE OBJECT {oid} IS {text};")
}

fn push_owner(sql: &mut Vec<String>, object: &LargeObject) {
    let oid = object.oid;
    sql.extend(object.labels.iter().map(|label| label_sql(oid, label)));
    sql.push(format!("ALTER LARGE OBJECT {oid} OWNER TO {};", quote_identifier(&object.owner)));
}

fn push_grants(sql: &mut Vec<String>, object: &LargeObject, grants: &[Privilege], roles: &WantedRoles) {
    let of_owner = grants.iter().filter(|grant| grant.grantee.as_ref() == Some(&object.owner)).count();
    if roles.has_owners() && of_owner < 2 {
        sql.push(format!("REVOKE ALL ON LARGE OBJECT {} FROM {};", object.oid, quote_identifier(&object.owner)));
    }
    for grant in grants {
        if roles.has_grantee(grant.grantee.as_ref()) {
            sql.push(grant_sql(object.oid, grant));
        }
    }
}

fn grant_sql(oid: u32, grant: &Privilege) -> String {
    let grantee = grantee_sql(grant);
    let option = if grant.option == GrantOption::With { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {} ON LARGE OBJECT {oid} TO {grantee}{option};", grant.privilege)
}

fn grantee_sql(grant: &Privilege) -> String {
    grant.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), quote_identifier)
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn blob_item(part: RestorePart, number: u32, objects: &[LargeObject], statements: Vec<ScriptStep>) -> ScriptItem {
    let class = "BLOB".to_owned();
    ScriptItem { part, number, class, object: name_of(objects), settings: Vec::new(), statements }
}

/// Runs the statements that `sql` returns for each object.
fn run_for_all(
    session: &TargetSession,
    done: &DoneParts,
    part: RestorePart,
    objects: &[LargeObject],
    sql: &dyn Fn(&LargeObject) -> Vec<String>,
) -> Result<(), EngineError> {
    for (number, objects) in (0..).zip(objects.chunks(OBJECTS_PER_ITEM)) {
        let statements: Vec<ScriptStep> = objects.iter().flat_map(sql).map(step).collect();
        if statements.is_empty() || done.has(part, number) {
            continue;
        }
        run_item(session, &blob_item(part, number, objects, statements), RefusalPolicy::Record)?;
    }
    Ok(())
}

fn step(sql: String) -> ScriptStep {
    ScriptStep { purpose: Purpose::Object, sql: sql.into_bytes() }
}

/// Names these objects in a message. There must be at least one.
fn name_of(objects: &[LargeObject]) -> String {
    let first = objects[0].oid;
    let last = objects[objects.len() - 1].oid;
    if first == last {
        return format!("large object {first}");
    }
    format!("large objects {first} to {last}")
}

/// Pages to write with one statement.
pub(super) struct PageBuffer {
    page_bytes: u32,
    objects: Vec<u32>,
    offsets: Vec<i64>,
    data: Vec<Vec<u8>>,
    written: u64,
}

impl PageBuffer {
    pub(super) fn new(page_bytes: u32) -> Self {
        Self { page_bytes, objects: Vec::new(), offsets: Vec::new(), data: Vec::new(), written: 0 }
    }

    /// Adds a row of the large object table: the object's OID, the page number and the page's bytes.
    /// Fails if the cells are not such a row, or the OID is not a 32-bit number.
    pub(super) fn add(&mut self, cells: &[Cell<'_>]) -> Result<(), String> {
        let [Cell::Integer(object), Cell::Integer(page), Cell::Bytes(data)] = *cells else {
            return Err("it is not a page of a large object".to_owned());
        };
        let object = u32::try_from(object).map_err(|_| "the OID of its large object is out of range".to_owned())?;
        self.objects.push(object);
        self.offsets.push(page.saturating_mul(i64::from(self.page_bytes)));
        self.data.push(data.to_vec());
        Ok(())
    }

    /// Whether the pages must be written before others are added.
    pub(super) fn is_full(&self) -> bool {
        self.objects.len() >= PAGES_MAX
    }

    /// Writes all added pages and empties the buffer.
    /// Fails if the server refuses a page, for example because its object does not exist, or if the session is lost.
    pub(super) fn write(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let sql = "SELECT pg_catalog.lo_put(o, p, d) FROM unnest($1::oid[], $2::bigint[], $3::bytea[]) AS w(o, p, d)";
        let params: [&(dyn ToSql + Sync); 3] = [&self.objects, &self.offsets, &self.data];
        client.attempt_with(sql, &params)?;
        self.written += self.objects.len() as u64;
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.objects.clear();
        self.offsets.clear();
        self.data.clear();
    }

    /// Number of pages written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::PageBuffer;
    use crate::format::cell::Cell;

    #[test]
    fn pages_are_written_where_the_source_had_them() {
        for (page_bytes, offset) in [(2048, 6144), (8192, 24_576)] {
            let mut pages = PageBuffer::new(page_bytes);
            pages.add(&[Cell::Integer(1), Cell::Integer(3), Cell::Bytes(b"x")]).expect("a page");
            assert_eq!(pages.offsets, [offset]);
        }
    }
}
