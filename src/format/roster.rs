//! Roster entries (`docs/format.md` section 11): keys, epochs, sources and features, signed by admins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::base::id::{Digest, Epoch, GroupId, KeyId, RepositoryId, SourceId};
use crate::base::limit::THOUSANDTHS_MAX;
use crate::base::revocation::RevocationReason;
use crate::base::role::{Role, SourceScope};
use crate::base::time::Moment;
use crate::format::dsse::{self, FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::entry::{AcceptLoss, Numbered};
use crate::format::feature::{Unlisted, is_feature_name};
use crate::format::name::Name;

/// One entry of the roster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry {
    pub repository: RepositoryId,
    /// From 1, without gaps.
    pub number: u64,
    /// Digest of the stored bytes of the previous entry. In entry 1, of `sidekeep.json`.
    pub previous: Digest,
    /// The signer's clock. Informative.
    pub written: Moment,
    /// Applied in order.
    pub statements: Vec<RosterStatement>,
}

/// One change that an entry makes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "statement", rename_all = "lowercase")]
pub enum RosterStatement {
    Enrol(Enrol),
    Revoke(RevokeKey),
    Epoch(OpenEpoch),
    Grant(AddGrant),
    Close(CloseEpoch),
    Source(AddSource),
    Rename(RenameSource),
    Retire(RetireSource),
    Extend(ExtendSources),
    Thresholds(Thresholds),
    #[serde(rename = "accept_loss")]
    AcceptLoss(AcceptLoss),
    Promote(Promotion),
    Feature(Feature),
    Withdraw(Feature),
    /// A statement of a kind that the base list does not have.
    #[serde(skip)]
    Unlisted(Unlisted),
    /// The statements of an entry in another format.
    #[serde(skip)]
    OtherFormat(Unlisted),
}

const STATEMENTS: [&str; 14] = [
    "enrol",
    "revoke",
    "epoch",
    "grant",
    "close",
    "source",
    "rename",
    "retire",
    "extend",
    "thresholds",
    "accept_loss",
    "promote",
    "feature",
    "withdraw",
];

/// Enrols a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrol {
    pub key: KeyId,
    pub role: Role,
    #[serde(with = "super::base64")]
    pub signing: [u8; 32],
    #[serde(with = "super::base64")]
    pub sealing: [u8; 1216],
    pub label: String,
    /// Only for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourceScope>,
}

/// Revokes a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokeKey {
    pub key: KeyId,
    pub reason: RevocationReason,
}

/// Opens an epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenEpoch {
    pub epoch: Epoch,
    /// The public restore key.
    #[serde(with = "super::base64")]
    pub sealing: [u8; 1216],
    /// Digests of the grants, by the key that each is for.
    pub grants: BTreeMap<KeyId, Digest>,
}

/// Grants a key an epoch that was opened before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddGrant {
    pub epoch: Epoch,
    pub key: KeyId,
    pub sha256: Digest,
}

/// Closes an epoch: nothing more is deduplicated against it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloseEpoch {
    pub epoch: Epoch,
    pub reason: String,
}

/// Adds a source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddSource {
    pub source: SourceId,
    /// The epoch whose structure key sealed the label.
    pub epoch: Epoch,
    /// Its sealed name.
    #[serde(with = "super::base64")]
    pub label: Vec<u8>,
    /// Sources with the same group are parts of one service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
}

/// Gives a source another name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RenameSource {
    pub source: SourceId,
    /// The epoch whose structure key sealed the label.
    pub epoch: Epoch,
    /// Its sealed name.
    #[serde(with = "super::base64")]
    pub label: Vec<u8>,
}

/// Closes a source and frees its name. Its snapshots stay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetireSource {
    pub source: SourceId,
    pub reason: String,
}

/// Enrols an operator's key for further sources.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExtendSources {
    pub key: KeyId,
    pub sources: SourceScope,
}

/// How much of a source or table may vanish between two snapshots before the newer one is suspect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Thresholds {
    pub source: SourceId,
    /// `None` applies to all tables of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<SealedTableName>,
    /// By the word of a reason, in thousandths.
    pub limits: BTreeMap<String, u16>,
    pub reason: String,
}

/// The name of a table, which the store must not see.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealedTableName {
    /// The epoch whose structure key sealed it.
    pub epoch: Epoch,
    #[serde(with = "super::base64")]
    pub name: Vec<u8>,
}

/// Makes a copy of the repository the place that hosts write to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Promotion {
    /// Digest of the newest mark of the copy.
    pub mark: Digest,
    /// The predecessor of this roster entry.
    pub roster: Numbered,
    /// Ascending by source.
    pub ledgers: Vec<LedgerHead>,
    pub reason: String,
}

/// The newest entry of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerHead {
    pub source: SourceId,
    /// From 1.
    pub number: u64,
    pub sha256: Digest,
}

impl LedgerHead {
    /// Fails unless `heads` names each source once, in ascending order.
    pub(super) fn check_all(heads: &[Self]) -> Result<(), StatementError> {
        let are_ascending = heads.is_sorted_by(|one, other| one.source < other.source);
        if are_ascending && heads.iter().all(|head| head.number > 0) {
            return Ok(());
        }
        Err(StatementError::Invalid { what: "list of ledgers" })
    }
}

/// Announces or withdraws a feature. Programs that do not know an announced one must not write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
}

impl RosterStatement {
    /// Whether a key of this role is entitled to sign it. `is_for_all` says whether it is enrolled for all sources.
    #[must_use]
    pub fn may_be_signed_by(&self, role: Role, is_for_all: bool) -> bool {
        match self {
            Self::Source(_) => role.is_admin() || (role == Role::Operator && is_for_all),
            Self::Withdraw(_) => role == Role::Recovery,
            // Only programs that know the feature know who may make it.
            Self::Unlisted(_) | Self::OtherFormat(_) => true,
            _ => role.is_admin(),
        }
    }

    /// The grants that the statement names.
    fn grants(&self) -> Vec<StatementSubject> {
        match self {
            Self::Epoch(opened) => opened.grants(),
            Self::Grant(added) => vec![grant_subject(added.epoch, added.key, added.sha256)],
            _ => Vec::new(),
        }
    }

    /// Fails if the format does not allow it in the entry after `predecessor`.
    fn check(&self, predecessor: Numbered) -> Result<(), StatementError> {
        match self {
            Self::Enrol(enrol) => enrol.check(),
            Self::Thresholds(thresholds) => thresholds.check(),
            Self::Promote(promotion) => promotion.check(predecessor),
            Self::Feature(feature) | Self::Withdraw(feature) => feature.check(),
            _ => Ok(()),
        }
    }
}

impl Thresholds {
    fn check(&self) -> Result<(), StatementError> {
        let is_share = |limit: &u16| *limit <= THOUSANDTHS_MAX;
        if self.limits.values().all(is_share) { Ok(()) } else { Err(StatementError::Invalid { what: "threshold" }) }
    }
}

impl Promotion {
    fn check(&self, predecessor: Numbered) -> Result<(), StatementError> {
        if self.roster != predecessor || predecessor.number == 0 {
            return Err(StatementError::Invalid { what: "roster head of a promotion" });
        }
        LedgerHead::check_all(&self.ledgers)
    }
}

impl Feature {
    fn check(&self) -> Result<(), StatementError> {
        if is_feature_name(&self.name) { Ok(()) } else { Err(StatementError::Invalid { what: "name of a feature" }) }
    }
}

impl OpenEpoch {
    fn grants(&self) -> Vec<StatementSubject> {
        let grants = self.grants.iter();
        grants.map(|(key, sha256)| grant_subject(self.epoch, *key, *sha256)).collect()
    }
}

impl Enrol {
    fn check(&self) -> Result<(), StatementError> {
        if self.key != KeyId::of(&self.signing, &self.sealing) {
            return Err(StatementError::Invalid { what: "id of an enrolled key" });
        }
        if !self.has_sources_of_role() {
            return Err(StatementError::Invalid { what: "sources of an enrolled key" });
        }
        Ok(())
    }

    /// Whether it names sources if and only if it is for an operator.
    fn has_sources_of_role(&self) -> bool {
        self.sources.is_some() == (self.role == Role::Operator)
    }
}

fn grant_subject(epoch: Epoch, key: KeyId, sha256: Digest) -> StatementSubject {
    StatementSubject { name: Name::Grant(epoch, key, sha256).to_string(), sha256 }
}

#[derive(Serialize)]
struct StoredRosterEntry<'a> {
    format: u32,
    repository: RepositoryId,
    number: u64,
    previous: Digest,
    written: Moment,
    statements: &'a [RosterStatement],
}

impl Serialize for RosterEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { repository, number, previous, written, statements } = self;
        StoredRosterEntry {
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

/// The part that is read from entries of every version, including later ones.
#[derive(Serialize, Deserialize)]
pub(super) struct RosterHead {
    format: u32,
    pub(super) repository: RepositoryId,
    pub(super) number: u64,
    pub(super) previous: Digest,
    written: Moment,
}

impl RosterHead {
    /// The entry before this one.
    fn predecessor(&self) -> Numbered {
        Numbered { number: self.number - 1, sha256: self.previous }
    }
}

impl Predicate for RosterEntry {
    const FAMILY: &'static str = "urn:sidekeep:roster";
    const WHAT: &'static str = "roster entry";

    fn subjects(&self) -> Vec<StatementSubject> {
        let grants: Vec<_> = self.statements.iter().flat_map(RosterStatement::grants).collect();
        if grants.is_empty() {
            return vec![self.predecessor()];
        }
        grants
    }

    fn decode(payload: &Payload) -> Result<Self, StatementError> {
        let head: RosterHead = payload.predicate()?;
        if head.number == 0 {
            return Err(StatementError::Invalid { what: "number of a roster entry" });
        }
        let statements = decode_statements(payload, &head)?;
        let RosterHead { repository, number, previous, written, .. } = head;
        Ok(Self { repository, number, previous, written, statements })
    }
}

impl RosterEntry {
    /// The previous object in the chain.
    fn predecessor(&self) -> StatementSubject {
        let name = if self.number > 1 { Name::Roster(self.number - 1) } else { Name::Descriptor };
        StatementSubject { name: name.to_string(), sha256: self.previous }
    }
}

#[derive(Serialize, Deserialize)]
struct StatementKind {
    statement: String,
}

#[derive(Serialize, Deserialize)]
struct StoredStatements {
    statements: Vec<Value>,
}

fn decode_statements(payload: &Payload, head: &RosterHead) -> Result<Vec<RosterStatement>, StatementError> {
    if let Some(other) = payload.other_format(head.format) {
        return Ok(vec![RosterStatement::OtherFormat(other)]);
    }
    let stored = payload.predicate::<StoredStatements>()?.statements;
    let statements = stored.iter().map(decode_statement).collect::<Result<Vec<_>, _>>()?;
    let predecessor = head.predecessor();
    statements.iter().try_for_each(|statement| statement.check(predecessor))?;
    Ok(statements)
}

fn decode_statement(stored: &Value) -> Result<RosterStatement, StatementError> {
    let kind = dsse::from_value::<StatementKind>(stored, RosterEntry::WHAT)?.statement;
    if STATEMENTS.contains(&kind.as_str()) {
        return dsse::from_value(stored, RosterEntry::WHAT);
    }
    Ok(RosterStatement::Unlisted(Unlisted::of_kind("roster statement", &kind)))
}
