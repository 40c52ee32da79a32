//! Tablespaces that tables and indexes were in. What cannot be in its own goes to the database's, so that no row is lost
//! for want of a disk.

use std::collections::{BTreeMap, HashSet};

use crate::engine::contract::SourceError;
use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::query::rows;
use crate::engine::postgres::restore::ledger::unanswered;
use crate::engine::postgres::restore::options::Globals;
use crate::engine::postgres::restore::scope::lists;
use crate::engine::postgres::restore::script::Script;
use crate::engine::postgres::restore::server::TargetServer;
use crate::engine::postgres::restore::sql::StatementWords;

const USUAL: &str = "SET default_tablespace = '';";

/// Leaves out tablespaces that are not wanted or not to be had. Gives the latter, and what became of what was in them.
pub(super) fn settle(
    client: &Client,
    server: &TargetServer,
    script: &mut Script,
    globals: Globals,
) -> Result<Vec<(String, String)>, SourceError> {
    // The database's own may be used by whoever may make anything in it.
    let sql = "SELECT spcname FROM pg_catalog.pg_tablespace WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')
        OR oid = (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    if globals == Globals::LeaveOut {
        leave_out(script, &HashSet::new());
        return Ok(Vec::new());
    }
    let usable = rows(client, "listing tablespaces", sql, |fields| fields.text());
    let usable = usable.map_err(|error| unanswered(error, &server.name))?.into_iter().collect();
    let finding = |(name, count): (String, usize)| {
        let objects = if count == 1 { "1 object is".to_owned() } else { format!("{count} objects are") };
        let reason = format!("it is not here or may not be used: {objects} in the database's own instead");
        (format!("tablespace {name}"), reason)
    };
    Ok(leave_out(script, &usable).into_iter().map(finding).collect())
}

/// Leaves out all others; gives how many objects were in each.
fn leave_out(script: &mut Script, usable: &HashSet<String>) -> BTreeMap<String, usize> {
    let mut without = BTreeMap::new();
    for item in lists(script).into_iter().flatten() {
        for setting in &mut item.settings {
            let words = StatementWords::of(setting.as_bytes());
            let wanted = words.starts_with(&["SET", "default_tablespace"]).then(|| words.name(3)).flatten();
            let Some(name) = wanted.filter(|name| !usable.contains(name)) else { continue };
            USUAL.clone_into(setting);
            *without.entry(name).or_default() += 1;
        }
    }
    without
}
