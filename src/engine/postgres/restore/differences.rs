//! How the database, its server and its roles differ from those that the snapshot is of, in what no statement of ours
//! changes. It changes nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::ledger::unanswered;
use crate::engine::postgres::restore::scope::lists;
use crate::engine::postgres::restore::script::Script;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;
use crate::engine::postgres::schema::document::{Purpose, SchemaDocument};

/// Roles that a message names.
const ROLES_NAMED_MAX: usize = 5;
/// The tablespace of a database that is in no other.
const USUAL_TABLESPACE: &str = "pg_default";

/// How a database differs.
#[derive(Default)]
pub(super) struct Differences {
    /// Values, or their order, may come to differ.
    pub(super) findings: Vec<String>,
    /// Nothing that is in it differs.
    pub(super) notes: Vec<String>,
}

/// What a database is and stays.
struct Database {
    encoding: String,
    collate: String,
    ctype: String,
    /// `c`, `i` or `b`
    provider: String,
    locale: Option<String>,
    rules: Option<String>,
    tablespace: String,
}

/// How the database differs from the one that the snapshot is of.
pub(super) fn of_database(
    document: &SchemaDocument,
    client: &Client,
    server: &TargetServer,
) -> Result<Differences, SourceError> {
    let Some(is) = database(client, server)? else { return Ok(Differences::default()) };
    let was = &document.server;
    let mut findings = Vec::new();
    let mut differ = |what: &str, is: &str, was: &str| {
        if is != was {
            findings.push(format!("its {what} is {is}, in the snapshot {was}"));
        }
    };
    differ("encoding", &is.encoding, &was.encoding);
    differ("collation", &is.collate, &was.collate);
    differ("character type", &is.ctype, &was.ctype);
    let (provider, locale) = (was.locale_provider.as_deref().unwrap_or("c"), was.locale.as_deref());
    if is.provider != provider {
        differ("locale provider", &provided(&is.provider, is.locale.as_deref()), &provided(provider, locale));
    } else if !is_same_locale(is.locale.as_deref(), locale) {
        differ("locale", is.locale.as_deref().unwrap_or("none"), locale.unwrap_or("none"));
    }
    let made = document.database.iter().map(|statement| statement.sql.bytes());
    let made =
        made.into_iter().find(|sql| StatementWords::of(sql).starts_with(&["CREATE", "DATABASE"])).unwrap_or_default();
    if !has_rules(&made, is.rules.as_deref()) {
        findings.push("its ICU rules are not those of the snapshot".to_owned());
    }
    let tablespace = StatementWords::of(&made).value("TABLESPACE").unwrap_or_else(|| USUAL_TABLESPACE.to_owned());
    let note = (tablespace != is.tablespace).then(|| {
        let (name, is) = (&server.database, &is.tablespace);
        format!("the tablespace of database {name} is {is}, in the snapshot {tablespace}")
    });
    Ok(Differences { findings, notes: note.into_iter().collect() })
}

fn database(client: &Client, server: &TargetServer) -> Result<Option<Database>, SourceError> {
    // Columns that some versions do not have are reached through JSON.
    let sql = "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
            coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
            coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'daticurules',
            (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = dattablespace)
        FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()";
    let found = rows(client, "asking what the database is", sql, |fields| {
        Ok(Database {
            encoding: fields.text()?,
            collate: fields.text()?,
            ctype: fields.text()?,
            provider: fields.text()?,
            locale: fields.optional()?,
            rules: fields.optional()?,
            tablespace: fields.text()?,
        })
    });
    Ok(found.map_err(|error| unanswered(error, &server.name))?.into_iter().next())
}

fn provided(provider: &str, locale: Option<&str>) -> String {
    let name = match provider {
        "c" => "libc",
        "i" => "ICU",
        "b" => "builtin",
        other => other,
    };
    locale.map_or_else(|| name.to_owned(), |locale| format!("{name} ({locale})"))
}

/// Versions write `en_US` and `en-US`.
fn is_same_locale(a: Option<&str>, b: Option<&str>) -> bool {
    let plain = |locale: Option<&str>| locale.map(|locale| locale.replace('_', "-").to_ascii_lowercase());
    plain(a) == plain(b)
}

/// Whether CREATE DATABASE says these rules of ICU.
fn has_rules(made: &[u8], rules: Option<&str>) -> bool {
    let made = String::from_utf8_lossy(made);
    match rules {
        None => !made.contains("ICU_RULES = "),
        Some(rules) => made.contains(&format!("ICU_RULES = '{}'", rules.replace('\'', "''"))),
    }
}

/// Extensions that have another version here.
pub(super) fn of_extensions(
    document: &SchemaDocument,
    client: &Client,
    server: &TargetServer,
) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT extname, extversion FROM pg_catalog.pg_extension";
    let found = rows(client, "listing extensions", sql, |fields| Ok((fields.text()?, fields.text()?)));
    let found: BTreeMap<String, String> = found.map_err(|error| unanswered(error, &server.name))?.into_iter().collect();
    let other = document.extensions.iter().filter_map(|was| {
        let version = found.get(&was.name).filter(|version| **version != was.version)?;
        Some(format!("extension {} has version {version} here, in the snapshot {}", was.name, was.version))
    });
    Ok(other.collect())
}

/// What to do about owners and grantees who are not among `roles`: each of their objects is refused something.
pub(super) fn of_roles(script: &mut Script, roles: &[String]) -> Option<String> {
    let about = |purpose| matches!(purpose, Purpose::Owner | Purpose::Privilege);
    let mut absent = BTreeSet::new();
    for items in lists(script) {
        let steps = items.iter().flat_map(|item| &item.statements).filter(|step| about(step.purpose));
        absent
            .extend(steps.flat_map(|step| StatementWords::of(&step.sql).roles()).filter(|role| !roles.contains(role)));
    }
    let more = if absent.len() > ROLES_NAMED_MAX { ", …" } else { "" };
    let named: Vec<&str> = absent.iter().take(ROLES_NAMED_MAX).map(String::as_str).collect();
    (!named.is_empty()).then(|| {
        format!(
            "roles that are not here own things or may use them: {}{more}; --no-owner --no-globals leaves out what is \
             refused for want of them",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{has_rules, is_same_locale};

    #[test]
    fn locales_and_rules_are_compared_as_they_are_meant() {
        assert!(is_same_locale(Some("en_US"), Some("en-US")) && is_same_locale(None, None));
        assert!(!is_same_locale(Some("en"), Some("de")) && !is_same_locale(None, Some("de")));
        let made = b"CREATE DATABASE a WITH ICU_RULES = '&a < ''b''';";
        assert!(has_rules(made, Some("&a < 'b'")) && has_rules(b"CREATE DATABASE a;", None));
        assert!(!has_rules(made, None) && !has_rules(b"CREATE DATABASE a;", Some("&a < b")));
    }
}
