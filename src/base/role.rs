//! The roles of keys, as named in key files and the roster. The types in `crypto::role` define what a role can do.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::base::id::SourceId;

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Adds snapshots. Cannot open rows.
    Operator,
    /// Forgets, prunes and repacks. Cannot open rows.
    Maintainer,
    /// Opens rows and enrols keys.
    Admin,
    /// Verifies. Cannot open rows.
    Auditor,
    /// Has an admin's powers and is kept offline.
    Recovery,
}

/// A word that does not name a role.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0:?} is not a role")]
pub struct ParseRoleError(String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Maintainer, Self::Admin, Self::Auditor, Self::Recovery];

    /// The word that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Maintainer => "maintainer",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Recovery => "recovery",
        }
    }

    /// Whether the role has an admin's powers.
    #[must_use]
    pub const fn is_admin(self) -> bool {
        matches!(self, Self::Admin | Self::Recovery)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| ParseRoleError(text.to_owned()))
    }
}

/// The sources that an operator may write: `"all"`, or a list of ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceScope {
    /// Every source, including future ones. Such an operator may add sources.
    All,
    /// Only these sources.
    Named(Vec<SourceId>),
}

impl SourceScope {
    /// Whether `source` is in scope.
    #[must_use]
    pub fn contains(&self, source: SourceId) -> bool {
        match self {
            Self::All => true,
            Self::Named(sources) => sources.contains(&source),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StoredScope {
    Word(String),
    Ids(Vec<SourceId>),
}

impl Serialize for SourceScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Named(sources) => sources.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SourceScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match StoredScope::deserialize(deserializer)? {
            StoredScope::Word(word) if word == "all" => Ok(Self::All),
            StoredScope::Word(word) => Err(serde::de::Error::custom(format!("{word:?} is neither \"all\" nor ids"))),
            StoredScope::Ids(sources) => Ok(Self::Named(sources)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, SourceScope};
    use crate::base::id::SourceId;

    #[test]
    fn stored_words_equal_the_serde_names() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_string(&role).expect("serializes"), format!("\"{role}\""));
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn scopes_round_trip() {
        for scope in [SourceScope::All, SourceScope::Named(vec![]), SourceScope::Named(vec![SourceId::new([1; 16])])] {
            let text = serde_json::to_string(&scope).expect("serializes");
            assert_eq!(serde_json::from_str::<SourceScope>(&text).expect("parses"), scope);
        }
        assert!(serde_json::from_str::<SourceScope>("\"any\"").is_err());
    }
}
