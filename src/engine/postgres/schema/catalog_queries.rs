//! Queries of the system catalogs, one per kind of fact. `catalog.rs` builds tables from the results.

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::{dump_pattern, is_readable, readable_text};
use crate::engine::postgres::connect::query::{QueryError, RowFields, rows};
use crate::engine::postgres::value::column_type::Collation;

/// Excludes system, TOAST and temporary tables.
const OF_USERS: &str = "nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_toast%'
    AND nspname NOT LIKE 'pg\\_temp\\_%' AND relpersistence <> 't'";

/// A row of `pg_class`, with what determines whether its rows are read.
#[derive(Debug)]
pub(crate) struct PgRelation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) kind: RelationKind,
    /// The topmost partitioned table, if this is a partition.
    pub(crate) root: Option<u32>,
    pub(crate) rows_estimate: Option<u64>,
    /// The current number of pages. `pg_class.relpages` may be outdated.
    pub(crate) pages: u64,
    /// None for relations without storage.
    pub(crate) access_method: Option<String>,
    pub(crate) obstacle: Option<ReadObstacle>,
    pub(crate) extension: Option<ExtensionMembership>,
    /// A pattern of `pg_dump` for it, if its name is not UTF-8.
    pub(crate) pattern: Option<String>,
}

/// Relations that may have rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RelationKind {
    Ordinary,
    Partitioned,
    Foreign,
}

/// Why the rows of a table cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ReadObstacle {
    NoRight,
    RowSecurity,
    /// An unlogged table on a standby.
    Unlogged,
    /// Its name, or a name in its definition, is not UTF-8.
    Unnamed,
    /// The rows are on another server.
    Foreign {
        server: String,
    },
}

/// How a table belongs to an extension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ExtensionMembership {
    /// The extension creates it, including its rows.
    Member { extension: String },
    /// Rows that meet the condition belong to the user. Empty means all rows.
    Configuration { condition: String },
}

/// Tables, partitions and foreign tables, ordered by name.
/// Fails if the query fails, for example because a table's lock is not granted within `lock_timeout`.
pub(crate) fn relations(client: &Client) -> Result<Vec<PgRelation>, QueryError> {
    rows(client, "listing tables", &relations_sql(), relation)
}

fn relations_sql() -> String {
    let schema = readable_text("nspname");
    let name = readable_text("relname");
    let readable =
        [is_readable("nspname"), is_readable("relname"), is_readable("coalesce(e.condition, '')")].join(" AND ");
    let pattern = dump_pattern("nspname", "relname");
    let server = readable_text("s.srvname");
    let extension = readable_text("e.extname");
    let condition = readable_text("e.condition");
    let readable_inside = [is_readable("attname"), is_readable("format_type(atttypid, NULL)")].join(" AND ");
    format!(
        "SELECT c.oid, {schema}, {name}, relkind, CASE WHEN relispartition THEN pg_partition_root(c.oid)::oid END,
            CASE WHEN reltuples > 0 OR relpages > 0 AND reltuples = 0 THEN reltuples::numeric::bigint END,
            CASE relkind WHEN 'r' THEN coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::integer ELSE 0 END, amname, {server},
            has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
            row_security_active(c.oid), relpersistence = 'u' AND pg_is_in_recovery(),
            {readable} AND NOT EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND NOT ({readable_inside})), {extension}, {condition}, {pattern}
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_am a ON a.oid = relam
        LEFT JOIN pg_foreign_table f ON ftrelid = c.oid LEFT JOIN pg_foreign_server s ON s.oid = ftserver
        LEFT JOIN LATERAL (SELECT extname, extcondition[array_position(extconfig, c.oid)] AS condition
            FROM pg_depend JOIN pg_extension x ON x.oid = refobjid
            WHERE classid = 'pg_class'::regclass AND objid = c.oid AND objsubid = 0
                AND refclassid = 'pg_extension'::regclass AND deptype = 'e' LIMIT 1) e ON true
        WHERE relkind IN ('r', 'p', 'f') AND {OF_USERS}
        ORDER BY nspname COLLATE \"C\", relname COLLATE \"C\""
    )
}

/// Fields must be read in the order of the query, which is also the order of the struct.
fn relation(fields: &mut RowFields) -> Result<PgRelation, QueryError> {
    let oid = fields.parsed()?;
    let schema = fields.text()?;
    let name = fields.text()?;
    let kind = RelationKind::of(&fields.text()?);
    Ok(PgRelation {
        oid,
        schema,
        name,
        kind,
        root: fields.optional_parsed()?,
        rows_estimate: fields.optional_parsed()?,
        pages: fields.parsed()?,
        access_method: fields.optional()?,
        obstacle: obstacle(fields, kind)?,
        extension: extension_membership(fields)?,
        pattern: fields.optional()?,
    })
}

impl RelationKind {
    fn of(relkind: &str) -> Self {
        match relkind {
            "p" => Self::Partitioned,
            "f" => Self::Foreign,
            _ => Self::Ordinary,
        }
    }
}

fn obstacle(fields: &mut RowFields, kind: RelationKind) -> Result<Option<ReadObstacle>, QueryError> {
    let server = fields.optional()?;
    let is_allowed = fields.boolean()?;
    let has_row_security = fields.boolean()?;
    let is_unlogged = fields.boolean()?;
    let is_readable = fields.boolean()?;
    Ok(match kind {
        RelationKind::Foreign => Some(ReadObstacle::Foreign { server: server.unwrap_or_default() }),
        _ if !is_allowed => Some(ReadObstacle::NoRight),
        _ if has_row_security => Some(ReadObstacle::RowSecurity),
        _ if is_unlogged => Some(ReadObstacle::Unlogged),
        _ if !is_readable => Some(ReadObstacle::Unnamed),
        _ => None,
    })
}

fn extension_membership(fields: &mut RowFields) -> Result<Option<ExtensionMembership>, QueryError> {
    let extension = fields.optional()?;
    let condition = fields.optional()?;
    Ok(match (extension, condition) {
        (Some(_), Some(condition)) => Some(ExtensionMembership::Configuration { condition }),
        (Some(extension), None) => Some(ExtensionMembership::Member { extension }),
        (None, _) => None,
    })
}

/// A row of `pg_attribute`.
#[derive(Clone, Debug)]
pub(crate) struct PgAttribute {
    pub(crate) relation: u32,
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_name: String,
    pub(crate) modifier: i32,
    pub(crate) origin: ColumnOrigin,
    pub(crate) nulls: Nulls,
    /// The value of this column in rows that are older than the column, as the type's output function writes it.
    pub(crate) missing: Option<String>,
    pub(crate) collation: Collation,
}

/// Where the values of a column come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColumnOrigin {
    Stored,
    /// Computed from other columns, whether stored or virtual.
    Generated,
}

/// Whether a column may be NULL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nulls {
    Allowed,
    Forbidden,
}

/// Columns that are not dropped, in order.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn attributes(client: &Client) -> Result<Vec<PgAttribute>, QueryError> {
    rows(client, "listing columns", &attributes_sql(), attribute)
}

fn attributes_sql() -> String {
    let name = readable_text("attname");
    let type_name = readable_text("format_type(atttypid, atttypmod)");
    // If the value is unreadable it is left out, and rows are read as they are stored.
    let readable = is_readable("array_to_string(attmissingval, '')");
    format!(
        "SELECT attrelid, attnum, {name}, atttypid, {type_name}, atttypmod, attgenerated <> '',
            attnotnull, CASE WHEN atthasmissing AND {readable} THEN array_to_string(attmissingval, '') END,
            coalesce((SELECT collisdeterministic FROM pg_collation l WHERE l.oid = attcollation), true)
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p') AND {OF_USERS} ORDER BY attrelid, attnum"
    )
}

fn attribute(fields: &mut RowFields) -> Result<PgAttribute, QueryError> {
    Ok(PgAttribute {
        relation: fields.parsed()?,
        number: fields.parsed()?,
        name: fields.text()?,
        type_oid: fields.parsed()?,
        type_name: fields.text()?,
        modifier: fields.parsed()?,
        origin: if fields.boolean()? { ColumnOrigin::Generated } else { ColumnOrigin::Stored },
        nulls: if fields.boolean()? { Nulls::Forbidden } else { Nulls::Allowed },
        missing: fields.optional()?,
        collation: if fields.boolean()? { Collation::Deterministic } else { Collation::Nondeterministic },
    })
}

/// A unique index on plain columns, without expressions or a predicate.
#[derive(Debug)]
pub(crate) struct UniqueIndex {
    pub(crate) relation: u32,
    pub(crate) rank: IndexRank,
    /// Attribute numbers, without INCLUDE columns.
    pub(crate) columns: Vec<u32>,
}

/// The preference of an index as a table's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IndexRank {
    Primary,
    Unique,
}

/// Indexes that can serve as keys, by name.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn uniques(client: &Client) -> Result<Vec<UniqueIndex>, QueryError> {
    let sql = "SELECT indrelid, indisprimary, (SELECT json_agg(attnum ORDER BY place)
            FROM unnest(indkey::int2[]) WITH ORDINALITY AS k (attnum, place) WHERE place <= indnkeyatts)
        FROM pg_index i JOIN pg_class x ON x.oid = indexrelid
        WHERE indisunique AND indislive AND (indisprimary OR indisvalid AND indimmediate)
            AND indpred IS NULL AND indexprs IS NULL AND indrelid >= 16384
        ORDER BY indrelid, relname COLLATE \"C\"";
    rows(client, "listing keys", sql, unique_index)
}

fn unique_index(fields: &mut RowFields) -> Result<UniqueIndex, QueryError> {
    let relation = fields.parsed()?;
    let rank = if fields.boolean()? { IndexRank::Primary } else { IndexRank::Unique };
    Ok(UniqueIndex { relation, rank, columns: fields.json()?.unwrap_or_default() })
}

/// A foreign key that was not inherited from a partitioned table.
#[derive(Debug)]
pub(crate) struct CatalogReference {
    pub(crate) oid: u32,
    pub(crate) relation: u32,
    pub(crate) parent: u32,
    pub(crate) columns: Vec<u32>,
    pub(crate) parent_columns: Vec<u32>,
    /// `confdeltype`
    pub(crate) on_delete: String,
}

/// Foreign keys by name, validated or not. Excludes temporal keys (PERIOD), which compare by overlap.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn references(client: &Client) -> Result<Vec<CatalogReference>, QueryError> {
    let sql =
        "SELECT oid, conrelid, confrelid, array_to_json(conkey), array_to_json(confkey), confdeltype FROM pg_constraint c
        WHERE contype = 'f' AND conparentid = 0 AND NOT coalesce((to_jsonb(c)->>'conperiod')::boolean, false)
        ORDER BY conrelid, conname COLLATE \"C\"";
    rows(client, "listing foreign keys", sql, reference)
}

fn reference(fields: &mut RowFields) -> Result<CatalogReference, QueryError> {
    Ok(CatalogReference {
        oid: fields.parsed()?,
        relation: fields.parsed()?,
        parent: fields.parsed()?,
        columns: fields.json()?.unwrap_or_default(),
        parent_columns: fields.json()?.unwrap_or_default(),
        on_delete: fields.text()?,
    })
}

/// How a foreign key compares one of its columns with the parent's, as SQL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyComparison {
    /// Follows the parent's column: `::schema.type`, or empty.
    pub(crate) parent_cast: String,
    /// `OPERATOR(schema.=)`
    pub(crate) operator: String,
    /// Follows the child's column.
    pub(crate) child_cast: String,
    /// The parent's collation: ` COLLATE schema.name`, or empty.
    pub(crate) collate: String,
}

/// How the triggers of these foreign keys compare columns, by constraint OID, in the order of the key. Comparisons that
/// the role may not make are left out, and so are those through a user-defined cast, which would run the code of
/// another user.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn comparisons(client: &Client, keys: &[u32]) -> Result<Vec<(u32, KeyComparison)>, QueryError> {
    rows(client, "reading how foreign keys compare", &comparisons_sql(keys), |fields| {
        let oid = fields.parsed()?;
        let comparison = KeyComparison {
            parent_cast: fields.text()?,
            operator: fields.text()?,
            child_cast: fields.text()?,
            collate: fields.text()?,
        };
        Ok((oid, comparison))
    })
}

fn comparisons_sql(keys: &[u32]) -> String {
    let keys: Vec<String> = keys.iter().map(u32::to_string).collect();
    format!(
        "WITH RECURSIVE pairs AS (
            SELECT c.oid, place, op, p.atttypid AS parent, p.attcollation AS collated, f.atttypid AS child
            FROM pg_constraint c, unnest(conpfeqop, conkey, confkey) WITH ORDINALITY AS k (op, own, theirs, place),
                pg_attribute p, pg_attribute f
            WHERE c.oid = ANY ('{{{keys}}}'::oid[]) AND p.attrelid = confrelid AND p.attnum = theirs
                AND f.attrelid = conrelid AND f.attnum = own),
        behind (type, base) AS (
            SELECT parent, parent FROM pairs UNION SELECT child, child FROM pairs
            UNION SELECT type, typbasetype FROM behind JOIN pg_type d ON d.oid = base WHERE typtype = 'd')
        SELECT x.oid, {parent_cast}, format('OPERATOR(%I.%s)', n.nspname, oprname), {child_cast},
            CASE WHEN collated = 0 THEN '' ELSE format(' COLLATE %I.%I', cn.nspname, collname) END
        FROM pairs x JOIN pg_operator o ON o.oid = op JOIN pg_namespace n ON n.oid = oprnamespace
            JOIN pg_type lt ON lt.oid = oprleft JOIN pg_namespace l ON l.oid = lt.typnamespace
            JOIN pg_type rt ON rt.oid = oprright JOIN pg_namespace r ON r.oid = rt.typnamespace
            LEFT JOIN pg_collation c ON c.oid = collated LEFT JOIN pg_namespace cn ON cn.oid = collnamespace
        WHERE {readable} AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(oprcode, 'EXECUTE')
            AND (collated = 0 OR has_schema_privilege(cn.oid, 'USAGE')) AND {parent_safe} AND {child_safe}
        ORDER BY x.oid, place",
        keys = keys.join(","),
        readable = comparison_is_readable(),
        parent_cast = PARENT_OPERAND.cast_sql(),
        child_cast = CHILD_OPERAND.cast_sql(),
        parent_safe = PARENT_OPERAND.is_safe_sql(),
        child_safe = CHILD_OPERAND.is_safe_sql(),
    )
}

fn comparison_is_readable() -> String {
    let names =
        ["n.nspname", "oprname", "l.nspname", "r.nspname", "lt.typname", "rt.typname", "cn.nspname", "collname"];
    names.map(|name| format!("coalesce({}, true)", is_readable(name))).join(" AND ")
}

/// One side of a comparison, with the aliases that the query uses.
struct Operand {
    /// The column's type.
    column: &'static str,
    /// The operator's input type, the alias of its `pg_type` row, and the alias of its schema's row.
    operator: &'static str,
    type_row: &'static str,
    schema_row: &'static str,
}

const PARENT_OPERAND: Operand = Operand { column: "parent", operator: "oprleft", type_row: "lt", schema_row: "l" };
const CHILD_OPERAND: Operand = Operand { column: "child", operator: "oprright", type_row: "rt", schema_row: "r" };

impl Operand {
    fn cast_sql(&self) -> String {
        let Self { column, operator, type_row, schema_row } = self;
        format!(
            "CASE WHEN {column} = {operator} THEN '' \
             ELSE format('::%I.%I', {schema_row}.nspname, {type_row}.typname) END"
        )
    }

    /// An SQL expression for whether there is no cast or only a built-in one.
    fn is_safe_sql(&self) -> String {
        let Self { column, operator, type_row, schema_row } = self;
        format!(
            "({column} = {operator} OR has_schema_privilege({schema_row}.oid, 'USAGE') AND ({type_row}.typtype = 'p' OR EXISTS (
                SELECT FROM behind b WHERE b.type = {column} AND (b.base = {operator} OR EXISTS (SELECT FROM pg_cast
                    WHERE castsource = b.base AND casttarget = {operator} AND (castmethod = 'b' OR castmethod = 'f'
                        AND castfunc < 16384 AND has_function_privilege(castfunc, 'EXECUTE')))))))"
        )
    }
}

/// Tables that look as if rows are appended and the oldest deleted, with the name of their key. The key is a bigint
/// from a sequence of its own, follows the physical order, and starts well above the sequence's start. No foreign key
/// references the table.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn feeds(client: &Client) -> Result<Vec<(u32, String)>, QueryError> {
    // MATERIALIZED, because the bounds of other columns cannot be cast to numbers.
    let readable = is_readable("attname");
    let sql = format!(
        "WITH likely AS MATERIALIZED (
            SELECT c.oid, s.attname, seqstart, histogram_bounds::text AS bounds
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_index ON indrelid = c.oid AND indisprimary
            JOIN pg_attribute a ON attrelid = c.oid AND attnum = indkey[0] AND atttypid = 'bigint'::regtype
            JOIN pg_depend d ON refclassid = 'pg_class'::regclass AND refobjid = c.oid AND refobjsubid = attnum
                AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
            JOIN pg_sequence q ON seqrelid = objid AND seqincrement > 0
            JOIN pg_stats s ON schemaname = nspname AND tablename = relname AND s.attname = a.attname AND NOT inherited
            WHERE relkind = 'r' AND NOT relispartition AND indnkeyatts = 1 AND reltuples >= 1000 AND correlation >= 0.99
                AND pg_stat_get_tuples_updated(c.oid) * 20 <= reltuples AND histogram_bounds IS NOT NULL
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = c.oid)),
        bounded AS (SELECT oid, attname, seqstart, bounds::bigint[] AS bounds FROM likely)
        SELECT oid, attname FROM bounded
        WHERE bounds[1] - seqstart > (bounds[array_upper(bounds, 1)] - bounds[1]) / 20 AND {readable}"
    );
    rows(client, "looking for feeds", &sql, |fields| Ok((fields.parsed()?, fields.text()?)))
}

/// Objects that are hidden from the role, and why. Superusers see all but tables in system schemas.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn hidden(client: &Client) -> Result<Vec<(String, String)>, QueryError> {
    let name = readable_text("name");
    let sql = format!(
        "WITH me AS (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        SELECT {name}, reason FROM (
        SELECT 'subscription ' || quote_ident(subname) AS name, 'only a superuser can read it' AS reason FROM pg_subscription, me
            WHERE NOT rolsuper AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL SELECT 'user mapping of ' || quote_ident(usename) || ' on ' || quote_ident(srvname),
            'its options are hidden from the role' FROM pg_user_mappings, me WHERE NOT rolsuper AND umoptions IS NULL
        UNION ALL SELECT format('%I.%I', nspname, relname), 'pg_dump leaves out tables in system schemas'
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND c.oid >= 16384 AND nspname IN ('pg_catalog', 'information_schema')
                AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
        ) AS h ORDER BY 1, 2"
    );
    rows(client, "looking for hidden objects", &sql, |fields| Ok((fields.text()?, fields.text()?)))
}

/// The table with the pages of large objects.
#[derive(Debug)]
pub(crate) struct LargeObjectPages {
    pub(crate) oid: u32,
    /// Number of large objects.
    pub(crate) objects: u64,
    pub(crate) rows_estimate: Option<u64>,
    /// Pages of the table itself.
    pub(crate) pages: u64,
    pub(crate) access_method: String,
    /// None if they can be read.
    pub(crate) obstacle: Option<ReadObstacle>,
}

/// Large objects, if there are any.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn large_objects(client: &Client) -> Result<Option<LargeObjectPages>, QueryError> {
    let sql = "SELECT c.oid, count, CASE WHEN reltuples > 0 THEN reltuples::numeric::bigint END,
            pg_relation_size(c.oid) / current_setting('block_size')::integer, amname, has_table_privilege(c.oid, 'SELECT')
        FROM pg_class c JOIN pg_am a ON a.oid = relam, (SELECT count(*) FROM pg_largeobject_metadata) m
        WHERE c.oid = 'pg_catalog.pg_largeobject'::regclass AND count > 0";
    let found = rows(client, "looking for large objects", sql, |fields| {
        Ok(LargeObjectPages {
            oid: fields.parsed()?,
            objects: fields.parsed()?,
            rows_estimate: fields.optional_parsed()?,
            pages: fields.parsed()?,
            access_method: fields.text()?,
            obstacle: if fields.boolean()? { None } else { Some(ReadObstacle::NoRight) },
        })
    })?;
    Ok(found.into_iter().next())
}

/// A sequence that the role may not read.
pub(crate) struct UnreadableSequence {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// A pattern of `pg_dump` for it, if its name is not UTF-8.
    pub(crate) pattern: Option<String>,
}

/// Sequences that the role may not read.
/// Fails if the query fails or returns an unexpected value.
pub(crate) fn unreadable_sequences(client: &Client) -> Result<Vec<UnreadableSequence>, QueryError> {
    let schema = readable_text("nspname");
    let name = readable_text("relname");
    let pattern = dump_pattern("nspname", "relname");
    let sql = format!(
        "SELECT {schema}, {name}, {pattern} FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'S' AND {OF_USERS}
            AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT'))
        ORDER BY nspname COLLATE \"C\", relname COLLATE \"C\""
    );
    rows(client, "listing sequences", &sql, |fields| {
        Ok(UnreadableSequence { schema: fields.text()?, name: fields.text()?, pattern: fields.optional()? })
    })
}
