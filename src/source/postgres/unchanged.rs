//! Whether the tables are still those that the image shows. TRUNCATE, and an ALTER that writes a table anew, leave
//! nothing for whoever looks from an earlier moment: a table would seem empty. Between the beginning of the image and the
//! locks anybody may do that.

use crate::source::postgres::client::Client;
use crate::source::postgres::error::PostgresError;

/// Of these relations, now locked, those that are written anew since the image began, by name.
pub(super) fn rewritten(client: &Client, relations: &[u32]) -> Result<Vec<String>, PostgresError> {
    // The catalog is as of the image; the function tells what is now.
    let sql = "SELECT oid::pg_catalog.regclass::text FROM pg_catalog.pg_class
        WHERE oid = ANY ($1::oid[]) AND relfilenode <> 0
            AND relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(oid) ORDER BY 1";
    let rows = client.query("looking whether tables are what they were", sql, &[&relations])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
