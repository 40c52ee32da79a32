//! Findings: what a check found wrong, as data. A fault names its object and says what to do; what
//! is wrong many times with one object is one finding with a count. A finding never ends a check.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::id::{Digest, SourceId};
use crate::repo::error::RepoError;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something stored is gone or altered, and somebody may miss it.
    Damage,
    /// Not as it must be, yet nothing is lost by it.
    Warning,
    /// Worth knowing.
    Information,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// An object that must be there is not.
    Missing,
    /// An object has another size than the ledger says.
    WrongSize,
    /// An object's bytes are not those that its name or a signed statement says.
    WrongContent,
    /// A signed entry is not what was signed, or not what its successor saw.
    Altered,
    /// An entry that never counted and was passed over.
    Void,
    /// Numbers of a chain beyond one that is missing.
    Gap,
    /// Signed state went back in time.
    RolledBack,
    /// Objects of a source that the roster does not name.
    UnknownSource,
    /// An object or chunk that does not open or decode.
    Unreadable,
    /// A chunk that a snapshot needs lies in no pack of the inventory.
    LostChunk,
    /// Counts, order, boundaries or ids that do not follow from the content.
    Contradiction,
    /// A location hint that leads elsewhere; readers ask the index.
    StaleHint,
    /// A fragment of the index that is damaged or says something else than the packs; it is a cache.
    StaleIndex,
    /// An object that nothing refers to, as interrupted runs leave behind.
    Orphan,
    /// A name that is none of the format's.
    Foreign,
    /// An object of a later version.
    Unsupported,
    /// Something that this key cannot check.
    NotChecked,
}

impl Fault {
    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Missing
            | Self::WrongSize
            | Self::WrongContent
            | Self::Altered
            | Self::Gap
            | Self::RolledBack
            | Self::UnknownSource
            | Self::Unreadable
            | Self::LostChunk
            | Self::Contradiction => Severity::Damage,
            Self::Void | Self::StaleHint | Self::StaleIndex | Self::Unsupported | Self::NotChecked => Severity::Warning,
            Self::Orphan | Self::Foreign => Severity::Information,
        }
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Missing | Self::WrongSize | Self::WrongContent | Self::Unreadable | Self::LostChunk => {
                "put the object of this name back from a second copy of the store; without one, the next backup stores \
                 again what is still in the source and missing here"
            }
            Self::Altered => {
                "put the entry of this name back from a second copy of the store, and find out who can write to it"
            }
            Self::Void => "nothing is lost; find out who wrote it",
            Self::Gap => {
                "put the missing entry back from a second copy of the store before the next backup takes its number"
            }
            Self::RolledBack => {
                "an older copy of the store was put back or entries were deleted: find out which, and put the newer ones \
                 back from a second copy"
            }
            Self::UnknownSource => "put the roster entry that added the source back from a second copy of the store",
            Self::Contradiction => {
                "whoever wrote it had a faulty program or a stolen key: restore from another \
                 snapshot, and take a new backup"
            }
            Self::StaleHint | Self::StaleIndex => "nothing to do: nothing is lost, but reading takes longer",
            Self::Orphan => "nothing to do: nobody needs it, and the next backup adopts what it can",
            Self::Foreign => "it is never touched; remove it by hand if it is not yours",
            Self::Unsupported => "use a newer version of sidekeep",
            Self::NotChecked => "check it with a key that may",
        }
    }
}

/// One fault of one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub fault: Fault,
    /// The object's name, or the name of what a reader would look for.
    pub object: String,
    /// The source that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    /// What was seen, the first time.
    pub what: String,
    /// How often.
    pub count: u64,
    /// Snapshots that are known to suffer.
    pub snapshots: BTreeSet<Digest>,
    /// Tables that are known to suffer.
    pub tables: BTreeSet<String>,
    pub remedy: String,
}

/// Whom a fault hurts, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Victim<'a> {
    pub snapshot: Option<Digest>,
    pub table: Option<&'a str>,
}

/// Findings of one kind of fault that are only information, each with its object; what comes after is counted.
const INFORMATION_MAX: usize = 100;

/// Findings as they come up.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    known: BTreeMap<(Fault, String), usize>,
    informed: BTreeMap<Fault, usize>,
    /// Every finding as it was met, so that a walk can tell what it met.
    log: Vec<usize>,
}

impl Findings {
    /// Adds a fault of `object` with the severity that its kind has.
    pub fn add(&mut self, fault: Fault, source: Option<SourceId>, object: impl ToString, what: impl ToString) -> usize {
        self.add_as(fault.severity(), (fault, source, object.to_string()), what.to_string())
    }

    /// Adds a fault with a severity of its own.
    pub fn add_as(
        &mut self,
        severity: Severity,
        (fault, source, object): (Fault, Option<SourceId>, String),
        what: String,
    ) -> usize {
        let object = if severity == Severity::Information { self.bounded(fault, object) } else { object };
        let at = *self.known.entry((fault, object.clone())).or_insert(self.list.len());
        self.log.push(at);
        if let Some(finding) = self.list.get_mut(at) {
            finding.count += 1;
            return at;
        }
        let remedy = fault.remedy().to_owned();
        let (snapshots, tables) = (BTreeSet::new(), BTreeSet::new());
        self.list.push(Finding { severity, fault, object, source, what, count: 1, snapshots, tables, remedy });
        at
    }

    /// The object, or a word for all that come after many.
    fn bounded(&mut self, fault: Fault, object: String) -> String {
        if self.known.contains_key(&(fault, object.clone())) {
            return object;
        }
        let seen = self.informed.entry(fault).or_default();
        *seen += 1;
        if *seen > INFORMATION_MAX { "further objects".to_owned() } else { object }
    }

    /// The same for an error of the repository; `Err` gives back one that is about the store.
    pub fn add_error(&mut self, source: Option<SourceId>, error: RepoError) -> Result<usize, RepoError> {
        let what = error.to_string();
        let (fault, object) = match error {
            RepoError::Missing { object } => (Fault::Missing, object),
            RepoError::Damaged { object, .. } => (Fault::Unreadable, object),
            RepoError::Foreign { object } => (Fault::WrongContent, object),
            RepoError::Unsupported { object, .. } => (Fault::Unsupported, object),
            RepoError::RolledBack { object, .. } => (Fault::RolledBack, object),
            RepoError::LaterLedger { source_id, .. } => (Fault::Unsupported, format!("{source_id}/ledger")),
            other @ (RepoError::NotEnrolled { .. } | RepoError::WrongRole { .. } | RepoError::Grant { .. }) => {
                let object = source.map_or_else(|| "the repository".to_owned(), |source| format!("source {source}"));
                (
                    Fault::NotChecked,
                    match other {
                        RepoError::NotEnrolled { .. } | RepoError::WrongRole { .. } => object,
                        _ => format!("{object}, keys"),
                    },
                )
            }
            other => return Err(other),
        };
        Ok(self.add(fault, source, object, what))
    }

    /// Notes whom a finding hurts.
    pub fn hurts(&mut self, at: usize, victim: Victim<'_>) {
        let finding = &mut self.list[at];
        finding.snapshots.extend(victim.snapshot);
        if let Some(table) = victim.table
            && !finding.tables.contains(table)
        {
            finding.tables.insert(table.to_owned());
        }
    }

    /// A known finding was met again by another victim.
    pub fn met_again(&mut self, at: usize, victim: Victim<'_>) {
        self.log.push(at);
        self.hurts(at, victim);
    }

    /// How many findings were met so far; with [`Findings::met_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.log.len()
    }

    /// The findings met since a mark, each once.
    #[must_use]
    pub fn met_since(&self, mark: usize) -> Vec<usize> {
        let mut met = self.log[mark..].to_vec();
        met.sort_unstable();
        met.dedup();
        met
    }

    /// Whether damage was found that hurts this snapshot.
    #[must_use]
    pub fn hurt(&self, snapshot: &Digest) -> bool {
        self.list.iter().any(|found| found.severity == Severity::Damage && found.snapshots.contains(snapshot))
    }

    /// All findings, the worst first.
    #[must_use]
    pub fn finish(mut self) -> Vec<Finding> {
        self.list.sort_by(|a, b| {
            (a.severity, a.source, &a.object, a.fault).cmp(&(b.severity, b.source, &b.object, b.fault))
        });
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Findings, Severity, Victim};
    use crate::base::id::Digest;
    use crate::repo::error::RepoError;
    use crate::store::StoreError;

    #[test]
    fn one_finding_for_one_fault_of_one_object() {
        let mut findings = Findings::default();
        findings.add(Fault::Orphan, None, "b", "nobody names it");
        let mark = findings.mark();
        let first = findings.add(Fault::LostChunk, None, "a", "leaf 1");
        findings.hurts(first, Victim { snapshot: Some(Digest::new([1; 32])), table: Some("t") });
        assert_eq!(findings.add(Fault::LostChunk, None, "a", "leaf 2"), first);
        assert_eq!(findings.met_since(mark), [first]);
        assert!(findings.hurt(&Digest::new([1; 32])) && !findings.hurt(&Digest::new([2; 32])));
        let list = findings.finish();
        assert_eq!((list.len(), list[0].count, list[0].what.as_str()), (2, 2, "leaf 1"));
        assert_eq!((list[0].severity, list[1].severity), (Severity::Damage, Severity::Information));
    }

    #[test]
    fn a_store_that_does_not_answer_is_no_finding() {
        let mut findings = Findings::default();
        let error = RepoError::Store(StoreError::NoPlace { place: "x".to_owned(), reason: "y".to_owned() });
        assert!(findings.add_error(None, error).is_err());
        let damaged = RepoError::Damaged { object: "x".to_owned(), reason: "y".to_owned() };
        assert!(findings.add_error(None, damaged).is_ok());
    }
}
