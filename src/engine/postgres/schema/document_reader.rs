//! Reads the schema document: statements from PostgreSQL's own tools, and queries for what the tools leave out.
//!
//! Every query sees the session's snapshot, except that roles and sequences are as of now.

use std::collections::HashSet;

use thiserror::Error;

use crate::base::finding::{Finding, FindingKind};
use crate::base::pipeline::{join, spawn};
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::identifier::{is_readable, readable_text};
use crate::engine::postgres::connect::query::{QueryError, RowFields, rows};
use crate::engine::postgres::schema::document::{
    CollationVersion, Extension, LargeObject, Position, SchemaDocument, SchemaStatement, Sequence, ServerFacts, Setting,
};
use crate::engine::postgres::schema::dump::{
    DumpError, DumpOutput, DumpRequest, DumpSection, DumpTools, RolePasswords,
};
use crate::engine::postgres::schema::statement_splitter::{SplitError, split};
use crate::engine::postgres::schema::table::{grantable, qualified};

/// How many sequences one query reads.
const SEQUENCES_PER_QUERY: usize = 200;

/// Why a schema could not be read.
#[derive(Debug, Error)]
pub enum SchemaError {
    #[error("the schema could not be dumped")]
    Dump(#[from] DumpError),
    #[error("the text of {tool} could not be split into statements")]
    Split { tool: &'static str, source: SplitError },
    #[error(transparent)]
    Answer(#[from] QueryError),
}

impl SchemaError {
    /// The tool's message if it could not lock a table in time because another session is waiting for our locks.
    pub(crate) fn not_locked(&self) -> Option<String> {
        match self {
            // This part of the message is always in English, unlike what the tool quotes from the server. Up to version
            // 14 it begins in lower case.
            Self::Dump(DumpError::Failed { reason, .. }) if reason.contains("uery was: LOCK TABLE") => {
                Some(reason.clone())
            }
            _ => None,
        }
    }
}

/// Reads everything but rows and the positions of sequences, which [`read_sequences`] reads after the rows.
/// Returns the document and the gaps. If `pg_dumpall` fails, that is a gap.
/// Fails if a query fails, a tool cannot be run or is cancelled, `pg_dump` fails, or the text of a tool cannot be
/// split.
pub fn read_document(
    client: &Client,
    tools: &DumpTools,
    request: &DumpRequest<'_>,
) -> Result<(SchemaDocument, Vec<Finding>), SchemaError> {
    let server = server(client)?;
    let sections = DumpSections::run(tools, request)?;
    let mut gaps = sections.warning_gaps(&server.database);
    let pre_data = statements("pg_dump", &sections.pre_data)?;
    let (database, pre_data) = pre_data.into_iter().partition(SchemaStatement::is_about_database);
    let document = SchemaDocument {
        version: SchemaDocument::version(),
        dumped_by: tools.major(),
        globals: globals(client, tools, request, &mut gaps)?,
        database,
        pre_data,
        post_data: statements("pg_dump", &sections.post_data)?,
        settings: settings(client)?,
        extensions: extensions(client)?,
        collations: collations(client)?,
        sequences: Vec::new(),
        large_objects: large_objects(client)?,
        server,
    };
    Ok((document, gaps))
}

/// The output of `pg_dump`.
struct DumpSections {
    pre_data: DumpOutput,
    post_data: DumpOutput,
}

impl DumpSections {
    /// Runs both at once, because locks are held meanwhile.
    fn run(tools: &DumpTools, request: &DumpRequest<'_>) -> Result<Self, DumpError> {
        let (pre_data, post_data) = std::thread::scope(|scope| {
            let post_data = spawn(scope, "pg_dump", || tools.section(request, DumpSection::PostData));
            (tools.section(request, DumpSection::PreData), join(post_data))
        });
        Ok(Self { pre_data: pre_data?, post_data: post_data? })
    }

    fn warning_gaps(&self, object: &str) -> Vec<Finding> {
        let both = [&self.pre_data, &self.post_data].into_iter();
        let mut gaps: Vec<Finding> = both.flat_map(|dumped| warning_gaps(object, dumped)).collect();
        // Both sections give the same warnings.
        let mut known = HashSet::new();
        gaps.retain(|gap| known.insert(gap.detail.clone()));
        gaps
    }
}

fn statements(tool: &'static str, dumped: &DumpOutput) -> Result<Vec<SchemaStatement>, SchemaError> {
    let pieces = split(&dumped.text).map_err(|source| SchemaError::Split { tool, source })?;
    Ok(SchemaStatement::all_of(&pieces))
}

/// Warnings of a tool: one gap per warning, with the lines that explain it.
fn warning_gaps(object: &str, dumped: &DumpOutput) -> Vec<Finding> {
    let mut gaps: Vec<Finding> = Vec::new();
    for line in &dumped.warnings {
        match (line.strip_prefix("warning: "), gaps.last_mut()) {
            (None, Some(gap)) => gap.detail = format!("{}; {line}", gap.detail),
            (warning, _) => gaps.push(dump_warning(object, warning.unwrap_or(line))),
        }
    }
    gaps
}

fn dump_warning(object: &str, warning: &str) -> Finding {
    Finding::new(FindingKind::DumpWarning, object, format!("pg_dump warns: {warning}"))
}

fn globals(
    client: &Client,
    tools: &DumpTools,
    request: &DumpRequest<'_>,
    gaps: &mut Vec<Finding>,
) -> Result<Vec<SchemaStatement>, SchemaError> {
    let passwords = readable_passwords(client)?;
    let dumped = match tools.globals(request.connection, passwords, request.cancelled) {
        Ok(dumped) => dumped,
        Err(DumpError::Failed { reason, .. }) => {
            let detail = format!("the role may not read them: {reason}");
            gaps.push(Finding::new(FindingKind::UnreadableRoles, "roles and tablespaces", detail));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    gaps.extend(passwords_gap(passwords));
    statements("pg_dumpall", &dumped)
}

fn passwords_gap(passwords: RolePasswords) -> Option<Finding> {
    let reason = "only a superuser or a role that may read pg_authid can read them: set them again after a restore";
    (passwords == RolePasswords::LeftOut).then(|| Finding::new(FindingKind::UnreadableRoles, "role passwords", reason))
}

fn readable_passwords(client: &Client) -> Result<RolePasswords, QueryError> {
    let sql = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let may_read = rows(client, "asking for the role's privileges", sql, |fields| fields.boolean())?;
    Ok(if may_read == [true] { RolePasswords::Included } else { RolePasswords::LeftOut })
}

fn server(client: &Client) -> Result<ServerFacts, QueryError> {
    // Columns that exist only in some versions are read through JSON.
    let sql = "SELECT current_setting('server_version_num'), datname, pg_get_userbyid(datdba),
            pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d)->>'datlocprovider',
            coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'datcollversion'
        FROM pg_database d WHERE datname = current_database()";
    let doing = "reading the properties of the database";
    let found = rows(client, doing, sql, server_facts)?;
    found.into_iter().next().ok_or_else(|| QueryError::Unexpected { doing, found: "no row".to_owned() })
}

fn server_facts(fields: &mut RowFields) -> Result<ServerFacts, QueryError> {
    Ok(ServerFacts {
        version: fields.parsed()?,
        database: fields.text()?,
        owner: fields.text()?,
        encoding: fields.text()?,
        collate: fields.text()?,
        ctype: fields.text()?,
        locale_provider: fields.optional()?,
        locale: fields.optional()?,
        collation_version: fields.optional()?,
    })
}

fn settings(client: &Client) -> Result<Vec<Setting>, QueryError> {
    let sql = "SELECT role, entries FROM (
            SELECT CASE WHEN setrole <> 0 THEN pg_get_userbyid(setrole) END AS role, array_to_json(setconfig) AS entries
            FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) s ORDER BY role COLLATE \"C\" NULLS FIRST";
    rows(client, "reading the settings of the database", sql, setting)
}

fn setting(fields: &mut RowFields) -> Result<Setting, QueryError> {
    Ok(Setting { role: fields.optional()?, entries: fields.json()?.unwrap_or_default() })
}

fn extensions(client: &Client) -> Result<Vec<Extension>, QueryError> {
    let [name, schema, version] = ["extname", "nspname", "extversion"].map(readable_text);
    let sql = format!(
        "SELECT {name}, {schema}, {version} FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
        ORDER BY extname COLLATE \"C\""
    );
    rows(client, "listing extensions", &sql, extension)
}

fn extension(fields: &mut RowFields) -> Result<Extension, QueryError> {
    Ok(Extension { name: fields.text()?, schema: fields.text()?, version: fields.text()? })
}

fn collations(client: &Client) -> Result<Vec<CollationVersion>, QueryError> {
    let [schema, name] = ["nspname", "collname"].map(readable_text);
    let sql = format!(
        "SELECT {schema}, {name}, collprovider, collversion FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace
        WHERE collversion IS NOT NULL AND (c.oid >= 16384 OR EXISTS (SELECT FROM pg_depend
            WHERE refclassid = 'pg_collation'::regclass AND refobjid = c.oid AND objid >= 16384))
        ORDER BY nspname COLLATE \"C\", collname COLLATE \"C\", collencoding"
    );
    rows(client, "listing collations", &sql, collation)
}

fn collation(fields: &mut RowFields) -> Result<CollationVersion, QueryError> {
    Ok(CollationVersion {
        schema: fields.text()?,
        name: fields.text()?,
        provider: fields.text()?,
        version: fields.text()?,
    })
}

fn large_objects(client: &Client) -> Result<Vec<LargeObject>, QueryError> {
    let sql = "SELECT oid, pg_get_userbyid(lomowner), CASE WHEN lomacl IS NOT NULL THEN coalesce(
            (SELECT json_agg(json_build_object('grantor', pg_get_userbyid(grantor),
                'grantee', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, 'privilege', privilege_type,
                'option', CASE WHEN is_grantable THEN 'with' ELSE 'without' END) ORDER BY place)
            FROM aclexplode(lomacl) WITH ORDINALITY AS a (grantor, grantee, privilege_type, is_grantable, place)), '[]') END,
            obj_description(oid, 'pg_largeobject'),
            (SELECT json_agg(json_build_object('provider', provider, 'label', label) ORDER BY provider COLLATE \"C\")
                FROM pg_seclabel WHERE classoid = 'pg_largeobject'::regclass AND objoid = m.oid)
        FROM pg_largeobject_metadata m ORDER BY oid";
    rows(client, "listing large objects", sql, large_object)
}

fn large_object(fields: &mut RowFields) -> Result<LargeObject, QueryError> {
    Ok(LargeObject {
        oid: fields.parsed()?,
        owner: fields.text()?,
        grants: fields.json()?,
        comment: fields.optional()?,
        labels: fields.json()?.unwrap_or_default(),
    })
}

/// The positions of sequences. Sequences are not transactional, so read them after the rows. Otherwise rows may contain
/// values that a restored sequence would return again.
/// Returns the positions, and a gap for each sequence that cannot be read.
/// Fails if a query fails or returns an unexpected value.
pub fn read_sequences(client: &Client) -> Result<(Vec<Sequence>, Vec<Finding>), QueryError> {
    let mut readable = Vec::new();
    let mut gaps = Vec::new();
    for sequence in listed_sequences(client)? {
        match sequence.gap() {
            None => readable.push(sequence),
            Some(gap) => gaps.push(gap),
        }
    }
    Ok((read_positions(client, &readable)?, gaps))
}

fn read_positions(client: &Client, listed: &[ListedSequence]) -> Result<Vec<Sequence>, QueryError> {
    let mut sequences = Vec::with_capacity(listed.len());
    for batch in listed.chunks(SEQUENCES_PER_QUERY) {
        sequences.extend(positions(client, batch)?);
    }
    Ok(sequences)
}

/// A sequence in the catalog.
struct ListedSequence {
    schema: String,
    name: String,
    /// Whether the role may read it.
    is_allowed: bool,
    /// An unlogged sequence on a standby.
    is_absent: bool,
    /// Whether its name is UTF-8.
    is_named: bool,
}

impl ListedSequence {
    fn sql_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    fn missing_right(&self) -> String {
        let name = grantable(&self.schema, &self.name);
        format!("the role may not read this sequence: its position is not captured; GRANT SELECT ON SEQUENCE {name}")
    }

    /// The gap, if its position cannot be read.
    fn gap(&self) -> Option<Finding> {
        let name = qualified(&self.schema, &self.name);
        if !self.is_allowed {
            return Some(Finding::new(FindingKind::UnreadableSequence, name, self.missing_right()));
        }
        if self.is_absent {
            let detail = "an unlogged sequence has no position on a standby";
            return Some(Finding::new(FindingKind::UnloggedOnStandby, name, detail));
        }
        if !self.is_named {
            let detail = "its name is not UTF-8: its position is not captured";
            return Some(Finding::new(FindingKind::UnreadableName, name, detail));
        }
        None
    }
}

fn listed_sequences(client: &Client) -> Result<Vec<ListedSequence>, QueryError> {
    let schema = readable_text("nspname");
    let name = readable_text("relname");
    let readable = [is_readable("nspname"), is_readable("relname")].join(" AND ");
    let sql = format!(
        "SELECT {schema}, {name}, has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT'),
            relpersistence = 'u' AND pg_is_in_recovery(), {readable}
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'S' AND relpersistence <> 't' AND (NOT EXISTS (SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
            OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)))
        ORDER BY nspname COLLATE \"C\", relname COLLATE \"C\""
    );
    rows(client, "listing sequences", &sql, listed_sequence)
}

fn listed_sequence(fields: &mut RowFields) -> Result<ListedSequence, QueryError> {
    Ok(ListedSequence {
        schema: fields.text()?,
        name: fields.text()?,
        is_allowed: fields.boolean()?,
        is_absent: fields.boolean()?,
        is_named: fields.boolean()?,
    })
}

fn positions(client: &Client, listed: &[ListedSequence]) -> Result<Vec<Sequence>, QueryError> {
    let found = rows(client, "reading sequences", &positions_sql(listed), position)?;
    let mut sequences = Vec::with_capacity(listed.len());
    for (ListedSequence { schema, name, .. }, position) in listed.iter().zip(found) {
        sequences.push(Sequence { schema: schema.clone(), name: name.clone(), position });
    }
    Ok(sequences)
}

fn positions_sql(listed: &[ListedSequence]) -> String {
    let mut queries = Vec::with_capacity(listed.len());
    for (at, sequence) in listed.iter().enumerate() {
        queries.push(format!("SELECT {at} AS place, last_value, is_called FROM {}", sequence.sql_name()));
    }
    format!("{} ORDER BY place", queries.join(" UNION ALL "))
}

fn position(fields: &mut RowFields) -> Result<Position, QueryError> {
    let _place: usize = fields.parsed()?;
    let value: i64 = fields.parsed()?;
    Ok(if fields.boolean()? { Position::Last(value) } else { Position::Next(value) })
}
