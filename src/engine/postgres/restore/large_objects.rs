//! Large objects: made empty before their pages come, given to their owners after that.
//!
//! Pages are written where they were, so that holes stay holes. Each transaction makes a few hundred objects, because
//! each of them takes a lock.

use tokio_postgres::types::ToSql;

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::restore::items::{ItemNaming, run};
use crate::engine::postgres::restore::ledger::{DoneParts, RestorePart};
use crate::engine::postgres::restore::options::Owners;
use crate::engine::postgres::restore::script::{ScriptItem, ScriptStep};
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::schema::document::{GrantOption, Label, LargeObject, Privilege, Purpose};
use crate::format::cell::Cell;

/// Objects in one transaction.
const OBJECTS_PER_ITEM: usize = 200;
/// Pages that are written by one statement.
const PAGES_MAX: usize = 1000;
const PAGE_BYTES: i64 = 2048;

/// Makes all objects, empty.
pub(super) fn create(
    client: &Client,
    server: &TargetServer,
    done: &DoneParts,
    objects: &[LargeObject],
) -> Result<(), SourceError> {
    items(client, server, done, (RestorePart::LargeObjects, objects), &|object| {
        vec![format!("SELECT pg_catalog.lo_create({});", object.oid)]
    })
}

/// Owners, comments, security labels and privileges.
pub(super) fn give(
    client: &Client,
    server: &TargetServer,
    done: &DoneParts,
    objects: &[LargeObject],
    (owners, roles): (Owners, &[String]),
) -> Result<(), SourceError> {
    let is_there = |role: &str| owners == Owners::Restore || roles.iter().any(|known| known == role);
    items(client, server, done, (RestorePart::LargeObjectRights, objects), &|object| {
        let oid = object.oid;
        let mut sql = Vec::new();
        if let Some(comment) = &object.comment {
            sql.push(format!("COMMENT ON LARGE OBJECT {oid} IS {};", literal(comment)));
        }
        if owners == Owners::Restore {
            let label = |label: &Label| {
                let (provider, text) = (quote_identifier(&label.provider), literal(&label.label));
                format!("SECURITY LABEL FOR {provider} ON LARGE OBJECT {oid} IS {text};")
            };
            sql.extend(object.labels.iter().map(label));
        }
        if owners == Owners::Restore {
            sql.push(format!("ALTER LARGE OBJECT {oid} OWNER TO {};", quote_identifier(&object.owner)));
        }
        if let Some(grants) = &object.grants {
            let owned = |grant: &&Privilege| grant.grantee.as_ref() == Some(&object.owner);
            if owners == Owners::Restore && grants.iter().filter(owned).count() < 2 {
                sql.push(format!("REVOKE ALL ON LARGE OBJECT {oid} FROM {};", quote_identifier(&object.owner)));
            }
            sql.extend(
                grants.iter().filter(|grant| grant.grantee.as_deref().is_none_or(is_there)).map(|g| grant(oid, g)),
            );
        }
        sql
    })
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn grant(oid: u32, grant: &Privilege) -> String {
    let grantee = grant.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), quote_identifier);
    let option = if grant.option == GrantOption::With { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {} ON LARGE OBJECT {oid} TO {grantee}{option};", grant.privilege)
}

fn items(
    client: &Client,
    server: &TargetServer,
    done: &DoneParts,
    (part, objects): (RestorePart, &[LargeObject]),
    sql: &dyn Fn(&LargeObject) -> Vec<String>,
) -> Result<(), SourceError> {
    for (number, some) in (0..).zip(objects.chunks(OBJECTS_PER_ITEM)) {
        let statements: Vec<ScriptStep> = some
            .iter()
            .flat_map(sql)
            .map(|sql| ScriptStep { purpose: Purpose::Object, sql: sql.into_bytes() })
            .collect();
        if statements.is_empty() || done.has(part, number) {
            continue;
        }
        let object = match (some.first(), some.last()) {
            (Some(first), Some(last)) if first.oid != last.oid => {
                format!("large objects {} to {}", first.oid, last.oid)
            }
            _ => format!("large object {}", some[0].oid),
        };
        let item = ScriptItem { part, number, class: "BLOB".to_owned(), object, settings: Vec::new(), statements };
        run(client, server, &item, ItemNaming::Named)?;
    }
    Ok(())
}

/// Pages that wait to be written.
#[derive(Default)]
pub(super) struct PageBuffer {
    objects: Vec<u32>,
    offsets: Vec<i64>,
    data: Vec<Vec<u8>>,
    written: u64,
}

impl PageBuffer {
    /// A row of the table: object, number of the page, its bytes.
    pub(super) fn add(&mut self, cells: &[Cell<'_>]) -> Result<(), String> {
        let [Cell::Integer(object), Cell::Integer(page), Cell::Bytes(data)] = *cells else {
            return Err("it is no page of a large object".to_owned());
        };
        self.objects.push(u32::try_from(object).map_err(|_| "its object has no number".to_owned())?);
        self.offsets.push(page.saturating_mul(PAGE_BYTES));
        self.data.push(data.to_vec());
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.objects.len() >= PAGES_MAX
    }

    /// Writes them.
    pub(super) fn put(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let sql = "SELECT pg_catalog.lo_put(o, p, d) FROM unnest($1::oid[], $2::bigint[], $3::bytea[]) AS w(o, p, d)";
        let params: [&(dyn ToSql + Sync); 3] = [&self.objects, &self.offsets, &self.data];
        if !self.objects.is_empty() {
            client.attempt_with(sql, &params)?;
        }
        self.written += self.objects.len() as u64;
        self.objects.clear();
        self.offsets.clear();
        self.data.clear();
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.written
    }
}
