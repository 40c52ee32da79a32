//! Gathers the schema document: PostgreSQL's own tools for statements, own queries for what they leave out.
//!
//! Every query sees the snapshot of the session that it is given; roles and sequences have none.

use thiserror::Error;

use crate::base::pipeline::{join, spawn};
use crate::engine::contract::Gap;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::identifier::{is_readable, readable_text};
use crate::engine::postgres::connect::query::{QueryError, rows};
use crate::engine::postgres::schema::document::{
    CollationVersion, Extension, LargeObject, Position, SchemaDocument, SchemaStatement, Sequence, ServerFacts, Setting,
};
use crate::engine::postgres::schema::dump::{
    DumpError, DumpOutput, DumpRequest, DumpSection, DumpTools, RolePasswords,
};
use crate::engine::postgres::schema::statement_splitter::{SplitError, split};

/// How many sequences are read at once.
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
    /// What the tools say, if they could not lock a table as they do: behind somebody who waits for us.
    pub(crate) fn not_locked(&self) -> Option<String> {
        match self {
            // What the tool says itself is in English; what it repeats of the server may not be. Until 14 its own words
            // began in lower case.
            Self::Dump(DumpError::Failed { reason, .. }) if reason.contains("uery was: LOCK TABLE") => {
                Some(reason.clone())
            }
            _ => None,
        }
    }
}

/// Reads everything but rows and where sequences stand ([`sequences`] reads that after the rows).
pub fn read_document(
    client: &Client,
    tools: &DumpTools,
    request: &DumpRequest<'_>,
) -> Result<(SchemaDocument, Vec<Gap>), SchemaError> {
    let mut gaps = Vec::new();
    let server = server(client)?;
    // The server's locks are held meanwhile: both at once.
    let (pre, post) = std::thread::scope(|scope| {
        let post = spawn(scope, "pg_dump", || tools.section(request, DumpSection::PostData));
        (tools.section(request, DumpSection::PreData), join(post))
    });
    let (pre, post) = (pre?, post?);
    for gap in [&pre, &post].into_iter().flat_map(|dumped| warning_gaps(&server.database, dumped)) {
        // Both sections warn of the same.
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    let (database, pre_data) = statements("pg_dump", &pre)?.into_iter().partition(SchemaStatement::is_about_database);
    let document = SchemaDocument {
        version: SchemaDocument::version(),
        dumped_by: tools.major(),
        globals: globals(client, tools, request, &mut gaps)?,
        database,
        pre_data,
        post_data: statements("pg_dump", &post)?,
        settings: settings(client)?,
        extensions: extensions(client)?,
        collations: collations(client)?,
        sequences: Vec::new(),
        large_objects: large_objects(client)?,
        server,
    };
    Ok((document, gaps))
}

fn statements(tool: &'static str, dumped: &DumpOutput) -> Result<Vec<SchemaStatement>, SchemaError> {
    let pieces = split(&dumped.text).map_err(|source| SchemaError::Split { tool, source })?;
    Ok(SchemaStatement::all_of(&pieces))
}

/// What a tool warned of, one gap per warning with the lines that explain it.
fn warning_gaps(object: &str, dumped: &DumpOutput) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for line in &dumped.warnings {
        match (line.strip_prefix("warning: "), gaps.last_mut()) {
            (None, Some(gap)) => gap.reason = format!("{}; {line}", gap.reason),
            (warning, _) => {
                let warning = warning.unwrap_or(line);
                gaps.push(Gap { object: object.to_owned(), reason: format!("pg_dump warns: {warning}") });
            }
        }
    }
    gaps
}

fn globals(
    client: &Client,
    tools: &DumpTools,
    request: &DumpRequest<'_>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<SchemaStatement>, SchemaError> {
    let sql = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let may_read = rows(client, "asking for rights", sql, |fields| fields.boolean())?;
    let passwords = if may_read == [true] { RolePasswords::Included } else { RolePasswords::LeftOut };
    let mut gap = |object: &str, reason: String| gaps.push(Gap { object: object.to_owned(), reason });
    match tools.globals(request.place, passwords, request.cancelled) {
        Ok(dumped) => {
            if passwords == RolePasswords::LeftOut {
                gap(
                    "role passwords",
                    "only a superuser and who may read pg_authid can read them: they must be set anew after a restore"
                        .to_owned(),
                );
            }
            statements("pg_dumpall", &dumped)
        }
        Err(DumpError::Failed { reason, .. }) => {
            gap("roles and tablespaces", format!("the role may not read them: {reason}"));
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn server(client: &Client) -> Result<ServerFacts, QueryError> {
    // Columns that some versions do not have are reached through JSON.
    let sql = "SELECT current_setting('server_version_num'), datname, pg_get_userbyid(datdba),
            pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d)->>'datlocprovider',
            coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'datcollversion'
        FROM pg_database d WHERE datname = current_database()";
    let what = "reading what the database is";
    let found = rows(client, what, sql, |fields| {
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
    })?;
    found.into_iter().next().ok_or_else(|| QueryError::Unexpected { doing: what, found: "no row".to_owned() })
}

fn settings(client: &Client) -> Result<Vec<Setting>, QueryError> {
    let sql = "SELECT role, entries FROM (
            SELECT CASE WHEN setrole <> 0 THEN pg_get_userbyid(setrole) END AS role, array_to_json(setconfig) AS entries
            FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) s ORDER BY role COLLATE \"C\" NULLS FIRST";
    rows(client, "reading the settings of the database", sql, |fields| {
        Ok(Setting { role: fields.optional()?, entries: fields.json()?.unwrap_or_default() })
    })
}

fn extensions(client: &Client) -> Result<Vec<Extension>, QueryError> {
    let sql = "SELECT extname, nspname, extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
        ORDER BY extname COLLATE \"C\"";
    rows(client, "listing extensions", sql, |fields| {
        Ok(Extension { name: fields.text()?, schema: fields.text()?, version: fields.text()? })
    })
}

fn collations(client: &Client) -> Result<Vec<CollationVersion>, QueryError> {
    let sql = "SELECT nspname, collname, collprovider, collversion FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace
        WHERE collversion IS NOT NULL AND (c.oid >= 16384 OR EXISTS (SELECT FROM pg_depend
            WHERE refclassid = 'pg_collation'::regclass AND refobjid = c.oid AND objid >= 16384))
        ORDER BY nspname COLLATE \"C\", collname COLLATE \"C\", collencoding";
    rows(client, "listing collations", sql, |fields| {
        let (schema, name) = (fields.text()?, fields.text()?);
        Ok(CollationVersion { schema, name, provider: fields.text()?, version: fields.text()? })
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
    rows(client, "listing large objects", sql, |fields| {
        let (oid, owner) = (fields.parsed()?, fields.text()?);
        let (grants, comment) = (fields.json()?, fields.optional()?);
        Ok(LargeObject { oid, owner, grants, comment, labels: fields.json()?.unwrap_or_default() })
    })
}

/// Where sequences stand. They move outside every transaction: read them after the rows, or rows may hold values
/// that a restored sequence gives out again.
pub fn read_sequences(client: &Client) -> Result<(Vec<Sequence>, Vec<Gap>), QueryError> {
    let (schema, name) = (readable_text("nspname"), readable_text("relname"));
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
    let listed = rows(client, "listing sequences", &sql, |fields| {
        Ok((fields.text()?, fields.text()?, (fields.boolean()?, fields.boolean()?, fields.boolean()?)))
    })?;
    let (mut readable, mut gaps) = (Vec::new(), Vec::new());
    for (schema, name, (allowed, absent, named)) in listed {
        let object = format!("{}.{}", quote_identifier(&schema), quote_identifier(&name));
        let reason = match (allowed, absent) {
            (true, false) if !named => "its name is not UTF-8: where it stands is not captured".to_owned(),
            (true, false) => {
                readable.push((schema, name));
                continue;
            }
            (false, _) => {
                format!("the role may not read where this sequence stands; GRANT SELECT ON SEQUENCE {object} helps")
            }
            (true, true) => "a standby does not know where an unlogged sequence stands".to_owned(),
        };
        gaps.push(Gap { object, reason });
    }
    let mut sequences = Vec::new();
    for some in readable.chunks(SEQUENCES_PER_QUERY) {
        sequences.extend(positions(client, some)?);
    }
    Ok((sequences, gaps))
}

fn positions(client: &Client, names: &[(String, String)]) -> Result<Vec<Sequence>, QueryError> {
    let one = |(at, (schema, name)): (usize, &(String, String))| {
        format!(
            "SELECT {at} AS place, last_value, is_called FROM {}.{}",
            quote_identifier(schema),
            quote_identifier(name)
        )
    };
    let all: Vec<String> = names.iter().enumerate().map(one).collect();
    let sql = format!("{} ORDER BY place", all.join(" UNION ALL "));
    let found = rows(client, "reading sequences", &sql, |fields| {
        let (_place, value): (usize, i64) = (fields.parsed()?, fields.parsed()?);
        Ok(if fields.boolean()? { Position::Last(value) } else { Position::Next(value) })
    })?;
    let pairs = names.iter().zip(found);
    Ok(pairs
        .map(|((schema, name), position)| Sequence { schema: schema.clone(), name: name.clone(), position })
        .collect())
}
