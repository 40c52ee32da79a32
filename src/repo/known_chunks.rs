//! The chunks that a writer may deduplicate against (invariant I5): packs of the inventory that belong to the open
//! epoch and to keys that are still trusted, and packs of the writer's own interrupted sessions, which it adopts.

use std::collections::{HashMap, HashSet};

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::crypto::ids::StructureKeys;
use crate::format::announcement::Announcement;
use crate::format::dsse::Envelope;
use crate::format::entry::ObjectRef;
use crate::format::name::Name;
use crate::format::node::FrameLocation;
use crate::repo::error::RepoError;
use crate::repo::finding::store_note;
use crate::repo::fragment::Signers;
use crate::repo::index::Index;
use crate::repo::index_loader::{UnsupportedPack, existing, load_index};
use crate::repo::ledger::Ledger;
use crate::repo::objects::ObjectRead;
use crate::repo::open::Unlocked;
use crate::repo::pack_table::PackTable;
use crate::repo::wanted_packs::WantedPack;

/// Chunks that a writer may rely on.
#[derive(Debug, Default)]
pub struct KnownChunks {
    pub index: Index,
    /// Packs of the index that the inventory does not have, by digest.
    pub adopted: HashMap<Digest, ObjectRef>,
    /// Notes for the user, for example about damaged fragments.
    pub notes: Vec<Finding>,
}

/// Loads the chunks that may be deduplicated against in `epoch`. Packs of interrupted sessions that cannot be read are
/// skipped.
/// Fails if the store cannot list objects or read the index, or if a pack that no index fragment covers is of a later
/// version.
pub fn load(
    unlocked: &Unlocked,
    ledger: &Ledger,
    keys: &StructureKeys,
    epoch: Epoch,
) -> Result<KnownChunks, RepoError> {
    let repository = unlocked.repository();
    let trusted = trusted_packs(ledger, epoch);
    let wanted = existing(repository, keys, &trusted)?;
    let mut loaded = load_index(repository, keys, &Signers::of(ledger), &wanted, UnsupportedPack::Fail)?;
    loaded.notes.extend(note_of_missing(trusted.len() - wanted.all().len()));
    let mut known = KnownChunks { index: loaded.index, notes: loaded.notes, ..KnownChunks::default() };
    Adoption { unlocked, ledger, keys, seen: HashSet::new(), known: &mut known }.adopt_all()?;
    Ok(known)
}

/// Packs of an epoch whose signers are trusted.
fn trusted_packs(ledger: &Ledger, epoch: Epoch) -> Vec<WantedPack> {
    ledger.inventory().filter(|pack| pack.epoch == epoch && ledger.trusts_pack(pack)).map(WantedPack::from).collect()
}

fn note_of_missing(packs: usize) -> Option<Finding> {
    let detail = format!("{packs} packs are missing or have another size. Their content is stored again");
    (packs > 0).then(|| store_note(detail))
}

/// Adds the packs of this key's sessions that never committed (rule L6).
struct Adoption<'a> {
    unlocked: &'a Unlocked,
    ledger: &'a Ledger,
    keys: &'a StructureKeys,
    seen: HashSet<Digest>,
    known: &'a mut KnownChunks,
}

impl Adoption<'_> {
    fn adopt_all(&mut self) -> Result<(), RepoError> {
        let names = self.announcements()?;
        let reads: Vec<ObjectRead> = names.into_iter().map(whole_announcement).collect();
        let unlocked = self.unlocked;
        unlocked.repository().objects().get_many(&reads, |at, bytes| {
            if let Ok(bytes) = bytes {
                self.adopt_announced(reads[at].name, &bytes);
            }
            Ok::<(), RepoError>(())
        })
    }

    fn adopt_announced(&mut self, name: Name, bytes: &[u8]) {
        if let Some(announcement) = own_announcement(self.unlocked, name, bytes) {
            self.adopt(announcement);
        }
    }

    /// The announcements of sessions that have no snapshot.
    fn announcements(&self) -> Result<Vec<Name>, RepoError> {
        let prefix = format!("{}/sessions", self.keys.context().source);
        let listed = self.unlocked.repository().objects().list(&prefix)?;
        let names = listed.iter().filter_map(|listed| Name::parse(&listed.name));
        Ok(names.filter(|name| self.is_open_session(name)).collect())
    }

    fn is_open_session(&self, name: &Name) -> bool {
        matches!(name, Name::Session(_, session, _) if !self.ledger.has_session(session))
    }

    fn adopt(&mut self, announcement: Announcement) {
        if !self.is_of_epoch(&announcement) {
            return;
        }
        for pack in announcement.packs {
            if self.is_new(&pack.sha256) && self.seen.insert(pack.sha256) {
                self.adopt_pack(pack);
            }
        }
    }

    fn is_of_epoch(&self, announcement: &Announcement) -> bool {
        let context = self.keys.context();
        announcement.epoch == context.epoch && announcement.repository == context.repository
    }

    fn is_new(&self, pack: &Digest) -> bool {
        !self.ledger.has_pack(pack) && !self.ledger.was_removed(pack)
    }

    /// A pack that cannot be read is not adopted.
    fn adopt_pack(&mut self, pack: ObjectRef) {
        let objects = self.unlocked.repository().objects();
        let table = PackTable::read(objects, self.keys, pack.sha256, pack.size);
        if let Err(error) = table.and_then(|table| self.add_table(pack, table)) {
            let note = store_note(format!("pack of an interrupted run skipped: {error}"));
            self.known.notes.push(note);
        }
    }

    fn add_table(&mut self, pack: ObjectRef, table: PackTable) -> Result<(), RepoError> {
        let index = &mut self.known.index;
        let ordinal = index.add_pack(table.indexed());
        let entries = table.locations().map(|(id, location)| (id, FrameLocation { pack: ordinal, ..location }));
        index.load(entries).map_err(|error| RepoError::damaged(pack.sha256, error.to_string()))?;
        self.known.adopted.insert(pack.sha256, pack);
        Ok(())
    }
}

fn whole_announcement(name: Name) -> ObjectRead {
    ObjectRead { name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 }
}

/// The announcement, if this very key signed it for the object with this name.
fn own_announcement(unlocked: &Unlocked, name: Name, bytes: &[u8]) -> Option<Announcement> {
    let envelope = Envelope::decode(bytes).ok()?;
    let announcement: Announcement = envelope.predicate().ok()?;
    let is_own = announcement.name() == name && is_signed_by(unlocked, &envelope);
    is_own.then_some(announcement)
}

fn is_signed_by(unlocked: &Unlocked, envelope: &Envelope) -> bool {
    if envelope.key() != unlocked.key() {
        return false;
    }
    let signing = &unlocked.identity().public().signing;
    signing.verify(&envelope.pae(), envelope.signature()).is_ok()
}
