//! What a writer may deduplicate against (invariant I5): packs of the inventory, of the open epoch,
//! of keys that are still trusted; and packs of its own interrupted sessions, which it adopts.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, Epoch, SessionId};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::crypto::ids::StructureKeys;
use crate::format::dsse::Envelope;
use crate::format::entry::ObjectRef;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::format::session::Announcement;
use crate::repo::error::RepoError;
use crate::repo::fragment::{self, Signers};
use crate::repo::index::{Index, IndexedPack};
use crate::repo::io::Read;
use crate::repo::ledger::Ledger;
use crate::repo::open::{Repository, Unlocked};
use crate::repo::pack_table::PackTable;

/// Packs whose tables are read because no index fragment tells of them are read one by one; a
/// fragment found damaged costs this much and nothing else.
#[derive(Debug, Default)]
pub struct KnownChunks {
    pub index: Index,
    /// Packs of the index that the inventory does not have, by digest.
    pub adopted: HashMap<Digest, ObjectRef>,
    /// Data keys of the sessions that were adopted.
    pub wraps: BTreeMap<SessionId, SessionWrap>,
    /// Things worth telling: damaged fragments.
    pub notes: Vec<String>,
}

/// Loads what may be deduplicated against in `epoch`.
pub fn load(
    unlocked: &Unlocked,
    ledger: &Ledger,
    keys: &StructureKeys,
    epoch: Epoch,
) -> Result<KnownChunks, RepoError> {
    let repository = unlocked.repository();
    let trusted: Vec<(Digest, u64)> = ledger
        .inventory()
        .filter(|pack| pack.epoch == epoch && ledger.trusts(&pack.signer))
        .map(|pack| (pack.digest, pack.size))
        .collect();
    let wanted = existing(repository, keys, &trusted)?;
    let missing = trusted.len() - wanted.len();
    let mut base = index(repository, keys, &Signers::of(ledger), &wanted, Later::Stops)?;
    if missing > 0 {
        base.notes.push(format!("{missing} packs are missing or have another size; what they held is stored again"));
    }
    adopt(unlocked, ledger, keys, &mut base)?;
    Ok(base)
}

/// Those packs that the store still has in their full size: a request per thousand packs, so that a
/// backup never shares data with a pack that is gone, but stores it again.
fn existing(
    repository: &Repository,
    keys: &StructureKeys,
    packs: &[(Digest, u64)],
) -> Result<Vec<(Digest, u64)>, RepoError> {
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    let mut sizes = HashMap::new();
    repository.objects().list_each(&format!("{}/packs", keys.context().source), |listed| {
        if let Some(Name::Pack(_, digest)) = Name::parse(&listed.name) {
            sizes.insert(digest, listed.size_bytes);
        }
        Ok::<(), RepoError>(())
    })?;
    Ok(packs.iter().filter(|(digest, size)| sizes.get(digest) == Some(size)).copied().collect())
}

/// The index of those of `wanted` that can be read, for a reader that works around damage.
pub fn index_of_readable(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[(Digest, u64)],
) -> Result<KnownChunks, RepoError> {
    let wanted = existing(repository, keys, wanted)?;
    index(repository, keys, signers, &wanted, Later::LeftOut)
}

/// What a pack of a later version means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Later {
    /// A writer that does not understand the repository must not write to it.
    Stops,
    /// A reader works around it.
    LeftOut,
}

/// An index of exactly these packs, from fragments and, where those do not suffice, from the packs'
/// own tables. A pack that cannot be read is left out: a writer stores again what it held.
fn index(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[(Digest, u64)],
    later: Later,
) -> Result<KnownChunks, RepoError> {
    let mut base = KnownChunks::default();
    let rank: HashMap<Digest, usize> = wanted.iter().enumerate().map(|(rank, pack)| (pack.0, rank)).collect();
    let mut packs: Vec<Option<IndexedPack>> = vec![None; wanted.len()];
    let mut entries = Vec::new();
    for fragment in fragment::read_all(repository.objects(), keys, signers, &mut base.notes)? {
        let ranks: Vec<Option<usize>> =
            fragment.packs.iter().map(|pack| rank.get(&pack.pack.digest).copied()).collect();
        for (pack, rank) in fragment.packs.into_iter().zip(&ranks) {
            if let Some(rank) = *rank {
                let epoch = keys.context().epoch;
                packs[rank] = Some(IndexedPack { pack: pack.pack, size: wanted[rank].1, content: pack.content, epoch });
            }
        }
        entries.extend(fragment.entries.into_iter().filter_map(|(id, location)| {
            ranks[location.pack as usize].map(|rank| (id, FrameLocation { pack: rank as u32, ..location }))
        }));
    }
    for (rank, (digest, size)) in wanted.iter().enumerate() {
        if packs[rank].is_none() {
            let table = match PackTable::read(repository.objects(), keys, *digest, *size) {
                Ok(table) => table,
                Err(error @ RepoError::Unsupported { .. }) if later == Later::Stops => return Err(error),
                Err(error) if !matches!(error, RepoError::Store(_)) => {
                    base.notes.push(format!("left out: {error}"));
                    // Keeps the ordinals of the others; nothing points at it.
                    packs[rank] = Some(placeholder(*digest, keys));
                    continue;
                }
                Err(error) => return Err(error),
            };
            entries
                .extend(table.locations().map(|(id, location)| (id, FrameLocation { pack: rank as u32, ..location })));
            packs[rank] = Some(table.indexed());
        }
    }
    for pack in packs.into_iter().flatten() {
        base.index.add_pack(pack);
    }
    base.index.load(entries.into_iter());
    Ok(base)
}

fn placeholder(digest: Digest, keys: &StructureKeys) -> IndexedPack {
    let pack = PackRef { digest, sessions: Vec::new() };
    IndexedPack { pack, size: 0, content: PackContent::Leaves, epoch: keys.context().epoch }
}

/// Adds the packs of this key's sessions that never committed (rule L6).
fn adopt(unlocked: &Unlocked, ledger: &Ledger, keys: &StructureKeys, base: &mut KnownChunks) -> Result<(), RepoError> {
    let context = keys.context();
    let repository = unlocked.repository();
    let listed = repository.objects().list(&format!("{}/sessions", context.source))?;
    let names: Vec<Name> = listed
        .iter()
        .filter_map(|listed| Name::parse(&listed.name))
        .filter(|name| matches!(name, Name::Session(_, session, _) if !ledger.has_session(session)))
        .collect();
    let reads: Vec<Read> =
        names.iter().map(|&name| Read { name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 }).collect();
    let mut seen = HashSet::new();
    repository.objects().get_many(&reads, |at, bytes| {
        let Ok(bytes) = bytes else { return Ok(()) };
        let Some(announcement) = own_announcement(unlocked, names[at], &bytes) else { return Ok(()) };
        if announcement.epoch != context.epoch || announcement.repository != context.repository {
            return Ok(());
        }
        for pack in &announcement.packs {
            let fresh = !ledger.has_pack(&pack.sha256) && !ledger.was_removed(&pack.sha256);
            if fresh && seen.insert(pack.sha256) {
                adopt_pack(repository, keys, *pack, base);
            }
        }
        if let Some(wrap) = announcement.wrap {
            base.wraps.insert(wrap.session(), wrap);
        }
        Ok::<(), RepoError>(())
    })
}

/// A pack that cannot be read is simply not adopted.
fn adopt_pack(repository: &Repository, keys: &StructureKeys, pack: ObjectRef, base: &mut KnownChunks) {
    match PackTable::read(repository.objects(), keys, pack.sha256, pack.size) {
        Ok(table) => {
            let ordinal = base.index.add_pack(table.indexed());
            base.index.load(table.locations().map(|(id, location)| (id, FrameLocation { pack: ordinal, ..location })));
            base.adopted.insert(pack.sha256, pack);
            for wrap in table.header.wraps {
                base.wraps.insert(wrap.session(), wrap);
            }
        }
        Err(error) => base.notes.push(format!("pack of an interrupted run left out: {error}")),
    }
}

/// The announcement, if this very key signed it in this place.
fn own_announcement(unlocked: &Unlocked, name: Name, bytes: &[u8]) -> Option<Announcement> {
    let envelope = Envelope::decode(bytes).ok()?;
    let announcement: Announcement = envelope.predicate().ok()?;
    let Name::Session(source, session, number) = name else { return None };
    let placed = (announcement.source, announcement.session, announcement.number) == (source, session, number);
    let own = envelope.key() == unlocked.key();
    let signed = unlocked.identity().public().signing.verify(&envelope.pae(), envelope.signature()).is_ok();
    (placed && own && signed).then_some(announcement)
}
