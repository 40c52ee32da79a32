//! Lists the keys.

use crate::base::finding::Finding;
use crate::base::id::{Epoch, KeyId, SourceId};
use crate::base::revocation::RevocationReason;
use crate::base::role::{Role, SourceScope};
use crate::ops::access::RepositoryAccess;
use crate::repo::names::SourceNames;
use crate::repo::roster::{EnrolledKey, Roster};

/// The keys of a repository.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KeysReport {
    /// In the order in which they were enrolled.
    pub keys: Vec<ListedKey>,
    pub epochs: Vec<EpochLine>,
    /// Entries of the roster that do not count.
    pub findings: Vec<Finding>,
}

/// A key in a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListedKey {
    pub key: KeyId,
    pub label: String,
    pub role: Role,
    /// The sources that an operator may write to. Absent for other roles.
    pub sources: Option<KeySources>,
    /// The roster entry that enrolled it.
    pub enrolled: u64,
    pub revoked: Option<KeyRevocation>,
    /// Whether what it wrote is not trusted: it was revoked as lost or stolen.
    pub is_distrusted: bool,
    /// The epochs that the roster names grants of.
    pub epochs: Vec<Epoch>,
    /// Whether it is the key that this command was given.
    pub is_own: bool,
}

/// That a key was revoked.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct KeyRevocation {
    /// The roster entry that revoked it first.
    pub entry: u64,
    /// The reason that counts.
    pub reason: RevocationReason,
}

/// The sources of an operator.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySources {
    /// All sources, including later ones.
    All,
    Named(Vec<NamedSource>),
}

/// A source of an operator.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NamedSource {
    pub source: SourceId,
    /// Absent if it has none, or the caller's key cannot read it.
    pub name: Option<String>,
}

/// An epoch in a list.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct EpochLine {
    pub epoch: Epoch,
    /// Whether nothing more is written to it.
    pub closed: bool,
}

/// Lists the keys. `own` is the key that the command was given. Without a key, sources have no names.
#[must_use]
pub fn list(access: RepositoryAccess<'_>, own: Option<KeyId>) -> KeysReport {
    let roster = access.repository().roster();
    let names = access.source_names();
    let mut keys: Vec<ListedKey> = Vec::new();
    for (key, state) in &roster.keys {
        keys.push(line(roster, *key, state, &names, own));
    }
    keys.sort_by_key(|line| (line.enrolled, line.role, line.key));
    let epochs = roster.epochs.iter().map(|(epoch, state)| EpochLine { epoch: *epoch, closed: state.closed });
    KeysReport { keys, epochs: epochs.collect(), findings: roster.warnings() }
}

fn line(roster: &Roster, key: KeyId, state: &EnrolledKey, names: &SourceNames, own: Option<KeyId>) -> ListedKey {
    let granted = roster.epochs.iter().filter(|(_, epoch)| epoch.grants.contains_key(&key));
    let revoked = state.revoked.zip(state.reason);
    ListedKey {
        key,
        label: state.label.clone(),
        role: state.role,
        sources: state.scope().map(|scope| sources(&scope, names)),
        enrolled: state.enrolled,
        revoked: revoked.map(|(entry, reason)| KeyRevocation { entry, reason }),
        is_distrusted: state.is_distrusted(),
        epochs: granted.map(|(epoch, _)| *epoch).collect(),
        is_own: own == Some(key),
    }
}

fn sources(scope: &SourceScope, names: &SourceNames) -> KeySources {
    match scope {
        SourceScope::All => KeySources::All,
        SourceScope::Named(sources) => {
            let named =
                |source: &SourceId| NamedSource { source: *source, name: names.name(*source).map(str::to_owned) };
            KeySources::Named(sources.iter().map(named).collect())
        }
    }
}
