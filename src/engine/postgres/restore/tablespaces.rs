//! Tablespaces of tables and indexes. Objects whose tablespace cannot be used are created in the database's default
//! tablespace, so that no row is lost because a disk is missing.

use std::collections::{BTreeMap, HashSet};

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::query::RowFields;
use crate::engine::postgres::restore::options::Globals;
use crate::engine::postgres::restore::script::Script;
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::statement_words::StatementWords;

const SET_DEFAULT: &str = "SET default_tablespace = '';";

/// A tablespace that cannot be used, and the number of objects that were in it.
pub(super) struct UnusableTablespace {
    name: String,
    objects: usize,
}

impl UnusableTablespace {
    /// The name of the tablespace in findings.
    pub(super) fn object(&self) -> String {
        format!("tablespace {}", self.name)
    }

    /// Why it cannot be used, and where its objects are instead.
    pub(super) fn reason(&self) -> String {
        let objects = match self.objects {
            1 => "1 object is".to_owned(),
            count => format!("{count} objects are"),
        };
        format!(
            "it does not exist here or this role may not use it: {objects} in the database's default tablespace instead"
        )
    }
}

/// Replaces tablespaces that are not wanted or cannot be used by the default. Returns those that cannot be used.
/// Fails if the query fails.
pub(super) fn leave_out_unusable(
    session: &TargetSession,
    script: &mut Script,
    globals: Globals,
) -> Result<Vec<UnusableTablespace>, EngineError> {
    if globals == Globals::LeaveOut {
        keep_tablespaces(script, &HashSet::new());
        return Ok(Vec::new());
    }
    let usable = usable_tablespaces(session)?;
    let left_out = keep_tablespaces(script, &usable).into_iter();
    Ok(left_out.map(|(name, objects)| UnusableTablespace { name, objects }).collect())
}

fn usable_tablespaces(session: &TargetSession) -> Result<HashSet<String>, EngineError> {
    // The database's default tablespace needs no privilege of its own.
    let sql = "SELECT spcname FROM pg_catalog.pg_tablespace WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')
        OR oid = (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    let usable = session.rows("listing tablespaces", sql, RowFields::text)?;
    Ok(usable.into_iter().collect())
}

/// Replaces all other tablespaces by the default. Returns how many objects were in each.
fn keep_tablespaces(script: &mut Script, usable: &HashSet<String>) -> BTreeMap<String, usize> {
    let mut left_out = BTreeMap::new();
    for item in script.lists_of_database().into_iter().flatten() {
        for setting in &mut item.settings {
            if let Some(name) = tablespace_of(setting).filter(|name| !usable.contains(name)) {
                SET_DEFAULT.clone_into(setting);
                *left_out.entry(name).or_default() += 1;
            }
        }
    }
    left_out
}

/// The tablespace that a setting names, if it sets one.
fn tablespace_of(setting: &str) -> Option<String> {
    let words = StatementWords::of(setting.as_bytes());
    if !words.starts_with(&["SET", "default_tablespace"]) {
        return None;
    }
    words.name(3)
}
