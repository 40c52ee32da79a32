//! Roster entries (`docs/format.md` section 11): keys, epochs, sources and features, signed by admins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::role::{Role, SourceScope};
use crate::base::time::Moment;
use crate::format::dsse::{FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::name::Name;

/// One entry of the roster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry {
    pub repository: RepositoryId,
    /// From 1, without gaps.
    pub number: u64,
    /// Digest of the stored bytes of the entry before; of `sidekeep.json` in entry 1.
    pub previous: Digest,
    /// The signer's clock, for people.
    pub written: Moment,
    /// In order.
    pub statements: Vec<RosterStatement>,
}

/// What an entry changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "statement", rename_all = "lowercase")]
pub enum RosterStatement {
    Enrol(Enrol),
    Revoke(RevokeKey),
    Epoch(OpenEpoch),
    Grant(AddGrant),
    Close(CloseEpoch),
    Source(AddSource),
    Feature(Feature),
    /// Of a later version. If an entitled key signed it in its place, nobody of this version can judge the roster.
    #[serde(skip)]
    Unsupported(String),
}

const STATEMENTS: [&str; 7] = ["enrol", "revoke", "epoch", "grant", "close", "source", "feature"];

/// A key is enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrol {
    pub key: KeyId,
    pub role: Role,
    #[serde(with = "super::base64")]
    pub signing: [u8; 32],
    #[serde(with = "super::base64")]
    pub sealing: [u8; 1216],
    pub label: String,
    /// Of operators alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourceScope>,
}

/// A key is enrolled no longer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokeKey {
    pub key: KeyId,
}

/// An epoch is opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenEpoch {
    pub epoch: Epoch,
    /// The public restore key.
    #[serde(with = "super::base64")]
    pub sealing: [u8; 1216],
    /// Digests of the grants, by whom they are for.
    pub grants: BTreeMap<KeyId, Digest>,
}

/// A key is granted an epoch that was opened before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddGrant {
    pub epoch: Epoch,
    pub key: KeyId,
    pub sha256: Digest,
}

/// Nothing more is deduplicated against this epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloseEpoch {
    pub epoch: Epoch,
    pub reason: String,
}

/// A source is added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddSource {
    pub source: SourceId,
    /// Whose structure key sealed the label.
    pub epoch: Epoch,
    /// Its name, sealed.
    #[serde(with = "super::base64")]
    pub label: Vec<u8>,
}

/// Readers that do not know it must not go on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
}

impl RosterStatement {
    /// Whether a key of this role, enrolled for these sources, is entitled to it.
    #[must_use]
    pub fn may_be_signed_by(&self, role: Role, scope: Option<&SourceScope>) -> bool {
        match self {
            Self::Source(_) => role.is_admin() || (role == Role::Operator && scope == Some(&SourceScope::All)),
            Self::Unsupported(_) => role != Role::Auditor,
            _ => role.is_admin(),
        }
    }

    fn grants(&self) -> Vec<StatementSubject> {
        let subject = |epoch, key, sha256| StatementSubject { name: Name::Grant(epoch, key).to_string(), sha256 };
        match self {
            Self::Epoch(OpenEpoch { epoch, grants, .. }) => {
                grants.iter().map(|(key, sha256)| subject(*epoch, *key, *sha256)).collect()
            }
            Self::Grant(AddGrant { epoch, key, sha256 }) => vec![subject(*epoch, *key, *sha256)],
            _ => Vec::new(),
        }
    }

    fn check(&self) -> Result<(), StatementError> {
        match self {
            Self::Enrol(enrol) if enrol.key != KeyId::of(&enrol.signing, &enrol.sealing) => {
                Err(StatementError::Invalid { what: "id of an enrolled key" })
            }
            Self::Enrol(enrol) if enrol.sources.is_some() != (enrol.role == Role::Operator) => {
                Err(StatementError::Invalid { what: "sources of an enrolled key" })
            }
            _ => Ok(()),
        }
    }
}

impl Serialize for RosterEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Stored<'a> {
            format: u32,
            repository: RepositoryId,
            number: u64,
            previous: Digest,
            written: Moment,
            statements: &'a [RosterStatement],
        }
        let Self { repository, number, previous, written, statements } = self;
        Stored {
            format: FORMAT,
            repository: *repository,
            number: *number,
            previous: *previous,
            written: *written,
            statements,
        }
        .serialize(serializer)
    }
}

/// What is read of every entry, also of a later version's.
#[derive(Deserialize)]
struct RosterHead {
    format: u32,
    repository: RepositoryId,
    number: u64,
    previous: Digest,
    written: Moment,
}

impl Predicate for RosterEntry {
    const FAMILY: &'static str = "urn:sidekeep:roster";
    const WHAT: &'static str = "roster entry";

    fn subjects(&self) -> Vec<StatementSubject> {
        let grants: Vec<_> = self.statements.iter().flat_map(RosterStatement::grants).collect();
        if !grants.is_empty() {
            return grants;
        }
        let name = if self.number > 1 { Name::Roster(self.number - 1) } else { Name::Descriptor };
        vec![StatementSubject { name: name.to_string(), sha256: self.previous }]
    }

    fn decode(payload: &Payload<'_>) -> Result<Self, StatementError> {
        #[derive(Deserialize)]
        struct Kinds {
            statements: Vec<StatementKind>,
        }
        #[derive(Deserialize)]
        struct StatementKind {
            statement: String,
        }
        #[derive(Deserialize)]
        struct Stored {
            statements: Vec<RosterStatement>,
        }
        let head: RosterHead = payload.predicate()?;
        if head.number == 0 {
            return Err(StatementError::Invalid { what: "number of a roster entry" });
        }
        let unknown = |kinds: Kinds| {
            let word = kinds.statements.into_iter().find(|kind| !STATEMENTS.contains(&kind.statement.as_str()));
            word.map(|kind| format!("roster statement {:?}", kind.statement))
        };
        let unsupported = match payload.later_than_ours(head.format) {
            Some(what) => Some(what),
            None => unknown(payload.predicate()?),
        };
        let statements = match unsupported {
            Some(what) => vec![RosterStatement::Unsupported(what)],
            None => payload.predicate::<Stored>()?.statements,
        };
        statements.iter().try_for_each(RosterStatement::check)?;
        let RosterHead { repository, number, previous, written, .. } = head;
        Ok(Self { repository, number, previous, written, statements })
    }
}
