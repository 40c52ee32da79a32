//! Marks of copies (`docs/format.md` section 12): a signed statement that a place is a copy of a repository.

use serde::{Deserialize, Serialize, Serializer};

use crate::base::id::{CopyId, Digest, RepositoryId};
use crate::base::time::Moment;
use crate::format::dsse::{FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::entry::Numbered;
use crate::format::name::Name;
use crate::format::roster::LedgerHead;

/// A place is a copy of a repository, with these heads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyMark {
    pub repository: RepositoryId,
    /// The copy that it marks: the same in all marks of one place.
    pub copy: CopyId,
    /// From 1.
    pub number: u64,
    /// Digest of the mark before it. `None` in mark 1.
    pub previous: Option<Digest>,
    /// The signer's clock.
    pub written: Moment,
    /// What the owner calls the place.
    pub place: String,
    /// The newest roster entry of the copy.
    pub roster: Numbered,
    /// The newest entries of the copy, ascending by source.
    pub ledgers: Vec<LedgerHead>,
}

/// Longest name of a place in bytes.
const PLACE_BYTES_MAX: usize = 256;

#[derive(Serialize, Deserialize)]
struct StoredCopyMark {
    format: u32,
    repository: RepositoryId,
    copy: CopyId,
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Digest>,
    written: Moment,
    place: String,
    roster: Numbered,
    ledgers: Vec<LedgerHead>,
}

impl Serialize for CopyMark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredCopyMark {
            format: FORMAT,
            repository: self.repository,
            copy: self.copy,
            number: self.number,
            previous: self.previous,
            written: self.written,
            place: self.place.clone(),
            roster: self.roster,
            ledgers: self.ledgers.clone(),
        }
        .serialize(serializer)
    }
}

impl Predicate for CopyMark {
    const FAMILY: &'static str = "urn:sidekeep:copy";
    const WHAT: &'static str = "mark of a copy";

    fn subjects(&self) -> Vec<StatementSubject> {
        vec![StatementSubject { name: Name::Roster(self.roster.number).to_string(), sha256: self.roster.sha256 }]
    }

    fn decode(payload: &Payload) -> Result<Self, StatementError> {
        payload.check_format()?;
        Self::try_from(payload.predicate::<StoredCopyMark>()?)
    }
}

impl TryFrom<StoredCopyMark> for CopyMark {
    type Error = StatementError;

    fn try_from(stored: StoredCopyMark) -> Result<Self, StatementError> {
        if !is_first_or_follows(stored.number, stored.previous.as_ref()) {
            return Err(StatementError::Invalid { what: "number of a mark" });
        }
        if !is_place(&stored.place) {
            return Err(StatementError::Invalid { what: "name of a place" });
        }
        LedgerHead::check_all(&stored.ledgers)?;
        Ok(Self {
            repository: stored.repository,
            copy: stored.copy,
            number: stored.number,
            previous: stored.previous,
            written: stored.written,
            place: stored.place,
            roster: stored.roster,
            ledgers: stored.ledgers,
        })
    }
}

fn is_place(text: &str) -> bool {
    text.len() <= PLACE_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Whether a statement has a predecessor exactly if it is not the first of its series.
pub(super) fn is_first_or_follows(number: u64, previous: Option<&Digest>) -> bool {
    number > 0 && previous.is_some() == (number > 1)
}
