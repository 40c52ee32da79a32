//! Whether a database is empty, that is, contains only what the system and extensions created.

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::query::RowFields;
use crate::engine::postgres::restore::session::TargetSession;

/// Number of objects that a message lists.
const NAMED_MAX: usize = 3;

/// The first objects that make a database not empty. Returns none if it is empty.
/// Fails if the query fails.
pub(super) fn existing_objects(session: &TargetSession) -> Result<Vec<String>, EngineError> {
    // Kinds of objects that are not listed here are in a schema, which is listed unless it is `public`.
    let sql = format!(
        "WITH own AS (
            SELECT 'pg_class'::regclass AS catalog, oid, format('%I.%I', relnamespace::regnamespace, relname) AS name
                FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
            UNION ALL SELECT 'pg_proc'::regclass, oid, oid::regprocedure::text FROM pg_proc
            UNION ALL SELECT 'pg_type'::regclass, oid, format('type %s', oid::regtype) FROM pg_type
                WHERE typtype IN ('d', 'e', 'r')
            UNION ALL SELECT 'pg_namespace'::regclass, oid, format('schema %I', nspname) FROM pg_namespace
                WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'public'
            UNION ALL SELECT 'pg_operator'::regclass, oid, format('operator %s', oid::regoper) FROM pg_operator
            UNION ALL SELECT 'pg_collation'::regclass, oid, format('collation %I', collname) FROM pg_collation
            UNION ALL SELECT 'pg_cast'::regclass, oid, 'a cast' FROM pg_cast
            UNION ALL SELECT 'pg_language'::regclass, oid, format('language %I', lanname) FROM pg_language
            UNION ALL SELECT 'pg_event_trigger'::regclass, oid, format('event trigger %I', evtname) FROM pg_event_trigger
            UNION ALL SELECT 'pg_publication'::regclass, oid, format('publication %I', pubname) FROM pg_publication
            UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, format('wrapper %I', fdwname)
                FROM pg_foreign_data_wrapper
            UNION ALL SELECT 'pg_largeobject_metadata'::regclass, oid, format('large object %s', oid)
                FROM pg_largeobject_metadata)
        SELECT name FROM own WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = own.catalog AND d.objid = own.oid AND d.deptype = 'e')
        ORDER BY own.catalog, own.oid LIMIT {}",
        NAMED_MAX + 1
    );
    let mut found = session.rows("checking that the database is empty", &sql, RowFields::text)?;
    if found.len() > NAMED_MAX {
        found[NAMED_MAX] = "…".to_owned();
    }
    Ok(found)
}
