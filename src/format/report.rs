//! Reports (`docs/format.md` section 12): what a key found or did, signed and in clear text, and the sealed body that
//! can be erased without breaking the report.

use serde::{Deserialize, Serialize, Serializer};

use crate::base::id::{ChunkId, Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::json;
use crate::base::limit::{Limit, LimitError, REPORT, REPORT_BODY_BYTES_MAX};
use crate::base::time::Moment;
use crate::format::copy::is_first_or_follows;
use crate::format::dsse::{FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::entry::Numbered;
use crate::format::header::{self, ObjectKind};
use crate::format::name::Name;
use crate::format::pack::padme;
use crate::format::wire::{Take, WireError};

const BODY: Limit = Limit::bytes(REPORT_BODY_BYTES_MAX, REPORT);

/// What a key found or did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedReport {
    pub repository: RepositoryId,
    /// The key that signs it.
    pub key: KeyId,
    /// Number among the reports of the key, from 1.
    pub number: u64,
    /// Digest of the report before it. `None` in report 1.
    pub previous: Option<Digest>,
    /// The newest roster entry that the signer had seen.
    pub roster: Numbered,
    /// The signer's clock.
    pub written: Moment,
    pub source: SourceId,
    /// Digest of the plan that was confirmed.
    pub plan: Option<Digest>,
    /// Snapshots and other objects that it is about.
    pub concerns: Vec<Digest>,
    pub content: ReportContent,
    pub body: Option<BodyRef>,
}

/// What the report is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReportContent {
    /// At least one object.
    Damage(Vec<DamagedName>),
    Restore,
    /// A kind of a later version.
    Other(String),
}

/// An object that is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DamagedName {
    pub name: String,
    pub problem: DamageProblem,
    /// The chunks that do not open. Only for that problem.
    pub frames: Vec<ChunkId>,
}

/// What is wrong with an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DamageProblem {
    Missing,
    /// Its digest or size is another.
    Altered,
    /// Frames do not open.
    Frames,
}

/// The body of a report, by the digest of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BodyRef {
    pub epoch: Epoch,
    pub sha256: Digest,
    pub size: u64,
}

/// The members that reports of all kinds have.
#[derive(Serialize, Deserialize)]
struct StoredReport {
    format: u32,
    repository: RepositoryId,
    key: KeyId,
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Digest>,
    roster: Numbered,
    written: Moment,
    kind: String,
    source: SourceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Digest>,
    concerns: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<BodyRef>,
}

/// What reports of the kinds of this version have besides.
#[derive(Serialize, Deserialize)]
struct StoredObjects {
    objects: Vec<DamagedName>,
}

#[derive(Serialize)]
struct WholeReport<'a> {
    #[serde(flatten)]
    common: StoredReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<&'a [DamagedName]>,
}

impl Serialize for SignedReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WholeReport { common: self.common(), objects: self.content.objects() }.serialize(serializer)
    }
}

impl SignedReport {
    fn common(&self) -> StoredReport {
        StoredReport {
            format: FORMAT,
            repository: self.repository,
            key: self.key,
            number: self.number,
            previous: self.previous,
            roster: self.roster,
            written: self.written,
            kind: self.content.kind().to_owned(),
            source: self.source,
            plan: self.plan,
            concerns: self.concerns.clone(),
            body: self.body,
        }
    }
}

impl ReportContent {
    fn kind(&self) -> &str {
        match self {
            Self::Damage(_) => "damage",
            Self::Restore => "restore",
            Self::Other(kind) => kind,
        }
    }

    /// `None` if this version does not know what the list is for.
    fn objects(&self) -> Option<&[DamagedName]> {
        match self {
            Self::Damage(objects) => Some(objects),
            Self::Restore => Some(&[]),
            Self::Other(_) => None,
        }
    }

    fn decode(kind: &str, payload: &Payload) -> Result<Self, StatementError> {
        if !["damage", "restore"].contains(&kind) {
            return Ok(Self::Other(kind.to_owned()));
        }
        let objects = payload.predicate::<StoredObjects>()?.objects;
        match kind {
            "damage" if !objects.is_empty() && objects.iter().all(DamagedName::is_valid) => Ok(Self::Damage(objects)),
            "restore" if objects.is_empty() => Ok(Self::Restore),
            _ => Err(StatementError::Invalid { what: "list of damaged objects" }),
        }
    }
}

impl DamagedName {
    fn is_valid(&self) -> bool {
        self.frames.is_empty() == (self.problem != DamageProblem::Frames)
    }
}

impl Predicate for SignedReport {
    const FAMILY: &'static str = "urn:sidekeep:report";
    const WHAT: &'static str = "report";

    fn subjects(&self) -> Vec<StatementSubject> {
        let (name, sha256) = match &self.body {
            Some(body) => (Name::ReportBody(self.key, body.sha256), body.sha256),
            None => (Name::Roster(self.roster.number), self.roster.sha256),
        };
        vec![StatementSubject { name: name.to_string(), sha256 }]
    }

    fn decode(payload: &Payload) -> Result<Self, StatementError> {
        payload.check_format()?;
        let stored: StoredReport = payload.predicate()?;
        let content = ReportContent::decode(&stored.kind, payload)?;
        stored.report(content)
    }
}

impl StoredReport {
    fn report(self, content: ReportContent) -> Result<SignedReport, StatementError> {
        let stored = self;
        if !is_first_or_follows(stored.number, stored.previous.as_ref()) {
            return Err(StatementError::Invalid { what: "number of a report" });
        }
        Ok(SignedReport {
            repository: stored.repository,
            key: stored.key,
            number: stored.number,
            previous: stored.previous,
            roster: stored.roster,
            written: stored.written,
            source: stored.source,
            plan: stored.plan,
            concerns: stored.concerns,
            content,
            body: stored.body,
        })
    }
}

/// One object `reports/<key id>/bodies/<sha256>`. `crypto` seals and opens its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportBody {
    pub repository: RepositoryId,
    pub epoch: Epoch,
    /// The key that signs the report.
    pub key: KeyId,
    /// Number of the report.
    pub number: u64,
    /// Encapsulated key and sealed content.
    pub sealed: Vec<u8>,
}

impl ReportBody {
    /// Encodes the bytes to store. Fails if they are more than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, LimitError> {
        let mut out = Vec::new();
        header::write(&mut out, ObjectKind::ReportBody);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.sealed);
        BODY.check("the body of a report", out.len() as u64)?;
        Ok(out)
    }

    /// Decodes stored bytes. Fails if they are not a body of a report.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::ReportBody)?;
        Ok(Self {
            repository: RepositoryId::new(take.array("repository id")?),
            epoch: Epoch(take.u32("epoch")?),
            key: KeyId::new(take.array("key id")?),
            number: take.u64("number of the report")?,
            sealed: take.rest().to_vec(),
        })
    }
}

/// The content of a body, which only admins can open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BodyContent {
    /// The user that the report is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub reason: String,
    /// Rows that were replaced.
    pub before: Vec<RowBefore>,
}

/// A row before it was replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RowBefore {
    /// Number of the table.
    pub table: u32,
    /// The row as in a leaf.
    #[serde(with = "super::base64")]
    pub row: Vec<u8>,
}

impl BodyContent {
    /// Encodes the bytes to seal, padded to a rounded length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("a body is plain JSON");
        json.resize(padme(json.len()), b' ');
        json
    }

    /// Decodes the content of an opened body. Fails if it is not of this form.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        const WHAT: &str = "body of a report";
        json::read(bytes).map_err(|source| StatementError::Json { what: WHAT, source })
    }
}
