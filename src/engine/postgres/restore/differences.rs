//! How the target database, its server and its roles differ from the snapshot in ways that the restore does not change.
//! Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::query::{QueryError, RowFields};
use crate::engine::postgres::restore::script::{Script, ScriptStep};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::document::Extension;
use crate::engine::postgres::schema::document::{Purpose, SchemaDocument};
use crate::engine::postgres::schema::statement_words::StatementWords;

/// Number of roles that a message lists.
const ROLES_NAMED_MAX: usize = 5;
/// The tablespace of a database whose CREATE DATABASE names none.
const DEFAULT_TABLESPACE: &str = "pg_default";

/// How the target database differs from the snapshot's.
#[derive(Default)]
pub(super) struct Differences {
    /// Differences that may change values or their order.
    pub(super) findings: Vec<String>,
    /// Differences that do not affect the database's content.
    pub(super) notes: Vec<String>,
}

/// Properties of a database that a restore does not change.
struct DatabaseProperties {
    encoding: String,
    collate: String,
    ctype: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin).
    provider: String,
    locale: Option<String>,
    rules: Option<String>,
    tablespace: String,
}

/// Compares the target database with the one in the snapshot.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn database_differences(
    document: &SchemaDocument,
    session: &TargetSession,
) -> Result<Differences, EngineError> {
    let mut differences = Differences::default();
    if let Some(database) = DatabaseProperties::ask(session)? {
        differences.compare_encoding(&database, document);
        differences.compare_locale(&database, document);
        let create = create_database(document);
        differences.compare_rules(&database, &create);
        differences.compare_tablespace(&database, &create, &session.server.database);
    }
    Ok(differences)
}

impl Differences {
    fn compare(&mut self, what: &str, here: &str, snapshot: &str) {
        if here != snapshot {
            self.findings.push(format!("its {what} is {here}, but {snapshot} in the snapshot"));
        }
    }

    fn compare_encoding(&mut self, database: &DatabaseProperties, document: &SchemaDocument) {
        let snapshot = &document.server;
        self.compare("encoding", &database.encoding, &snapshot.encoding);
        self.compare("collation", &database.collate, &snapshot.collate);
        self.compare("character type", &database.ctype, &snapshot.ctype);
    }

    fn compare_locale(&mut self, database: &DatabaseProperties, document: &SchemaDocument) {
        let here = database.locale.as_deref();
        let snapshot = document.server.locale.as_deref();
        let provider = document.server.locale_provider.as_deref().unwrap_or("c");
        if database.provider != provider {
            let here = provider_name(&database.provider, here);
            self.compare("locale provider", &here, &provider_name(provider, snapshot));
        } else if !is_same_locale(here, snapshot) {
            self.compare("locale", here.unwrap_or("none"), snapshot.unwrap_or("none"));
        }
    }

    fn compare_rules(&mut self, database: &DatabaseProperties, create: &[u8]) {
        if !has_icu_rules(create, database.rules.as_deref()) {
            self.findings.push("its ICU rules differ from the snapshot's".to_owned());
        }
    }

    fn compare_tablespace(&mut self, database: &DatabaseProperties, create: &[u8], name: &str) {
        let here = &database.tablespace;
        let snapshot = StatementWords::of(create).option("TABLESPACE");
        let snapshot = snapshot.unwrap_or_else(|| DEFAULT_TABLESPACE.to_owned());
        if snapshot != *here {
            self.notes.push(format!("the tablespace of database {name} is {here}, but {snapshot} in the snapshot"));
        }
    }
}

/// The CREATE DATABASE statement of the snapshot. Empty if there is none.
fn create_database(document: &SchemaDocument) -> Vec<u8> {
    let mut statements = document.database.iter().map(|statement| statement.sql.bytes());
    let found = statements.find(|sql| StatementWords::of(sql).starts_with(&["CREATE", "DATABASE"]));
    found.unwrap_or_default()
}

impl DatabaseProperties {
    fn ask(session: &TargetSession) -> Result<Option<Self>, EngineError> {
        // Columns that some versions lack are read through JSON, where they are NULL.
        let sql = "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
                coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
                coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'daticurules',
                (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = dattablespace)
            FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()";
        let found = session.rows("reading the properties of the database", sql, Self::read)?;
        Ok(found.into_iter().next())
    }

    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self {
            encoding: fields.text()?,
            collate: fields.text()?,
            ctype: fields.text()?,
            provider: fields.text()?,
            locale: fields.optional()?,
            rules: fields.optional()?,
            tablespace: fields.text()?,
        })
    }
}

fn provider_name(provider: &str, locale: Option<&str>) -> String {
    let name = full_provider_name(provider);
    match locale {
        Some(locale) => format!("{name} ({locale})"),
        None => name.to_owned(),
    }
}

fn full_provider_name(provider: &str) -> &str {
    match provider {
        "c" => "libc",
        "i" => "ICU",
        "b" => "builtin",
        other => other,
    }
}

/// Some server versions write `en_US`, others `en-US`.
fn is_same_locale(one: Option<&str>, other: Option<&str>) -> bool {
    one.map(plain_locale) == other.map(plain_locale)
}

fn plain_locale(locale: &str) -> String {
    locale.replace('_', "-").to_ascii_lowercase()
}

/// Whether a CREATE DATABASE statement has these ICU rules.
fn has_icu_rules(create: &[u8], rules: Option<&str>) -> bool {
    let create = String::from_utf8_lossy(create);
    match rules {
        None => !create.contains("ICU_RULES = "),
        Some(rules) => create.contains(&format!("ICU_RULES = '{}'", rules.replace('\'', "''"))),
    }
}

/// Notes about extensions whose version here differs from the snapshot's.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn extension_differences(
    document: &SchemaDocument,
    session: &TargetSession,
) -> Result<Vec<String>, EngineError> {
    let here = installed_extensions(session)?;
    Ok(document.extensions.iter().filter_map(|extension| extension_difference(extension, &here)).collect())
}

/// Versions of the installed extensions, by name.
fn installed_extensions(session: &TargetSession) -> Result<BTreeMap<String, String>, EngineError> {
    let sql = "SELECT extname, extversion FROM pg_catalog.pg_extension";
    let here = session.rows("listing extensions", sql, |fields| Ok((fields.text()?, fields.text()?)))?;
    Ok(here.into_iter().collect())
}

fn extension_difference(extension: &Extension, here: &BTreeMap<String, String>) -> Option<String> {
    let name = &extension.name;
    let snapshot = &extension.version;
    let version = here.get(name).filter(|version| *version != snapshot)?;
    Some(format!("extension {name} has version {version} here, but {snapshot} in the snapshot"))
}

/// Tells the user what to do about owners and grantees that are not among `roles`. Without them, statements about their
/// objects are refused.
pub(super) fn absent_roles_note(script: &mut Script, roles: &[String]) -> Option<String> {
    let absent = absent_roles(script, roles);
    if absent.is_empty() {
        return None;
    }
    let more = if absent.len() > ROLES_NAMED_MAX { ", …" } else { "" };
    let named: Vec<&str> = absent.iter().take(ROLES_NAMED_MAX).map(String::as_str).collect();
    Some(format!(
        "these roles own objects or have privileges but do not exist here: {}{more}; to skip the statements that are \
         refused without them, use --no-owner --no-globals",
        named.join(", ")
    ))
}

/// Owners and grantees that are not among `roles`.
fn absent_roles(script: &mut Script, roles: &[String]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for item in script.lists_of_database().into_iter().flatten() {
        let steps = item.statements.iter().filter(|step| names_roles(step));
        named.extend(steps.flat_map(|step| step.words().roles()));
    }
    named.retain(|role| !roles.contains(role));
    named
}

fn names_roles(step: &ScriptStep) -> bool {
    matches!(step.purpose, Purpose::Owner | Purpose::Privilege)
}

#[cfg(test)]
mod tests {
    use super::{has_icu_rules, is_same_locale};

    #[test]
    fn locales_and_icu_rules_are_compared_by_meaning() {
        assert!(is_same_locale(Some("en_US"), Some("en-US")) && is_same_locale(None, None));
        assert!(!is_same_locale(Some("en"), Some("de")) && !is_same_locale(None, Some("de")));
        let made = b"CREATE DATABASE a WITH ICU_RULES = '&a < ''b''';";
        assert!(has_icu_rules(made, Some("&a < 'b'")) && has_icu_rules(b"CREATE DATABASE a;", None));
        assert!(!has_icu_rules(made, None) && !has_icu_rules(b"CREATE DATABASE a;", Some("&a < b")));
    }
}
