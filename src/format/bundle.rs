//! Bundles (`docs/format.md` section 10): consecutive entries of a ledger or of the roster in one unsigned object, so
//! that a reader needs fewer requests.

use crate::base::id::{Digest, RepositoryId, SourceId};
use crate::base::limit::{BUNDLE_BYTES_MAX, Limit, LimitError, REPORT};
use crate::format::dsse::Envelope;
use crate::format::entry::{ChainPlace, Numbered};
use crate::format::header::{self, ObjectKind};
use crate::format::name::Name;
use crate::format::roster::{RosterEntry, RosterHead};
use crate::format::wire::{Put, Take, WireError};

const BUNDLE: Limit = Limit::bytes(BUNDLE_BYTES_MAX, REPORT);
/// Stands for the roster, where a ledger has its source.
const NO_SOURCE: SourceId = SourceId::new([0; SourceId::LEN]);

/// Consecutive entries of one chain. They are not trusted: an entry that was read by itself must name the last one, and
/// each is judged like any other entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryBundle {
    pub repository: RepositoryId,
    /// The source of a ledger. `None` for the roster.
    pub source: Option<SourceId>,
    /// Number of the first entry.
    pub first: u64,
    /// The bytes of each entry as stored. At least one.
    pub entries: Vec<Vec<u8>>,
}

/// What a statement says about its place in a chain.
struct ClaimedPlace {
    repository: RepositoryId,
    source: Option<SourceId>,
    number: u64,
    previous: Digest,
}

impl EntryBundle {
    /// The name under which these encoded bytes of the bundle are stored.
    #[must_use]
    pub fn name(&self, encoded: &[u8]) -> Name {
        let digest = Digest::of(encoded);
        self.source.map_or(Name::RosterBundle(digest), |source| Name::Bundle(source, digest))
    }

    /// Encodes the bytes to store. Fails if they are more than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, LimitError> {
        let mut out = Vec::new();
        header::write(&mut out, ObjectKind::Bundle);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.source.unwrap_or(NO_SOURCE).as_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.put_list(&self.entries, |entry, out| out.put_bytes(entry));
        BUNDLE.check("a bundle of entries", out.len() as u64)?;
        Ok(out)
    }

    /// Decodes stored bytes. Fails unless each entry but the first is in its place and names the one before it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut take = Take::new(bytes);
        header::read(&mut take, ObjectKind::Bundle)?;
        let repository = RepositoryId::new(take.array("repository id")?);
        let source = Some(SourceId::new(take.array("source id")?)).filter(|source| *source != NO_SOURCE);
        let first = take.u64("number of the first entry")?;
        let entries = take.list(1, "entries", |take| Ok(take.bytes("entry")?.to_vec()))?;
        take.finish()?;
        let bundle = Self { repository, source, first, entries };
        if bundle.is_chained() { Ok(bundle) } else { Err(WireError::Invalid { what: "chain of entries" }) }
    }

    /// Number and digest of the last entry, which a later entry must name. `None` if there is no entry.
    #[must_use]
    pub fn last(&self) -> Option<Numbered> {
        let last = self.entries.last()?;
        let number = self.first.checked_add(self.entries.len() as u64 - 1)?;
        Some(Numbered { number, sha256: Digest::of(last) })
    }

    fn is_chained(&self) -> bool {
        let mut number = self.first;
        let follows = |pair: &[Vec<u8>]| {
            number += 1;
            matches!(pair, [before, entry] if self.follows(number, before, entry))
        };
        self.first > 0 && self.last().is_some() && self.entries.windows(2).all(follows)
    }

    /// Whether `entry` has this number and names the entry `before` it.
    fn follows(&self, number: u64, before: &[u8], entry: &[u8]) -> bool {
        let Some(place) = self.claimed_place(entry) else { return false };
        place.repository == self.repository
            && place.source == self.source
            && place.number == number
            && place.previous == Digest::of(before)
    }

    /// `None` if the members that entries of every version have cannot be read.
    fn claimed_place(&self, entry: &[u8]) -> Option<ClaimedPlace> {
        let envelope = Envelope::decode(entry).ok()?;
        if self.source.is_none() { ClaimedPlace::of_roster(&envelope) } else { ClaimedPlace::of_ledger(&envelope) }
    }
}

impl ClaimedPlace {
    fn of_roster(envelope: &Envelope) -> Option<Self> {
        let head: RosterHead = envelope.head::<RosterEntry, _>().ok()?;
        Some(Self { repository: head.repository, source: None, number: head.number, previous: head.previous })
    }

    fn of_ledger(envelope: &Envelope) -> Option<Self> {
        let place = ChainPlace::claimed_by(envelope)?;
        let source = Some(place.source);
        Some(Self { repository: place.repository, source, number: place.number, previous: place.previous })
    }
}
