//! How users are named: by the key of their row and, if rows of several tables are users, by the table too.

use std::collections::BTreeMap;

use crate::format::catalog::Catalog;
use crate::ops::readable::key_text;

/// The names of the users of two snapshots.
pub struct UserNames {
    /// Names of the owner tables by kind, in either snapshot.
    tables: BTreeMap<u8, String>,
}

impl UserNames {
    /// The names of the users of both snapshots.
    #[must_use]
    pub fn of(old: &Catalog, new: &Catalog) -> Self {
        let mut tables = BTreeMap::new();
        for catalog in [old, new] {
            let by_number = catalog.by_number();
            let names = catalog.owners.iter().filter_map(|owner| Some((owner.kind, by_number.get(&owner.table)?)));
            tables.extend(names.map(|(kind, entry)| (kind, entry.name.clone())));
        }
        Self { tables }
    }

    /// The name of the user with this kind and key.
    #[must_use]
    pub fn text(&self, owner: &[u8]) -> String {
        match self.tables.get(owner.first().unwrap_or(&0)) {
            Some(table) if self.tables.len() > 1 => format!("{table}:{}", bare_text(owner)),
            _ => bare_text(owner),
        }
    }

    /// Whether somebody means this user by `wanted`.
    #[must_use]
    pub fn is_meant(&self, owner: &[u8], wanted: &str) -> bool {
        bare_text(owner) == wanted || self.text(owner) == wanted
    }
}

/// The key, without the kind.
fn bare_text(owner: &[u8]) -> String {
    key_text(owner.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::UserNames;
    use crate::format::cell::Cell;
    use crate::format::key::push_component;

    #[test]
    fn users_of_several_tables_are_named_with_their_table() {
        let owner = |kind: u8| {
            let mut owner = vec![kind];
            push_component(&mut owner, &Cell::Integer(7));
            owner
        };
        let names = |tables: &[(u8, &str)]| UserNames {
            tables: tables.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect(),
        };
        let one = names(&[(1, "users")]);
        assert_eq!(one.text(&owner(1)), "7");
        assert!(one.is_meant(&owner(1), "7") && !one.is_meant(&owner(1), "8"));
        let two = names(&[(1, "users"), (2, "orgs")]);
        assert_eq!((two.text(&owner(1)), two.text(&owner(2))), ("users:7".to_owned(), "orgs:7".to_owned()));
        assert!(two.is_meant(&owner(2), "7") && two.is_meant(&owner(2), "orgs:7"));
        assert!(!two.is_meant(&owner(1), "orgs:7"));
    }
}
