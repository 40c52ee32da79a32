//! What entries of maintainers and admins do to the snapshots and the inventory.

use crate::base::id::{Digest, KeyId, SessionId};
use crate::format::entry::{Erase, Forget, Numbered, ObjectRef, Prune, Readmit, Repack, ReplacedManifest};
use crate::repo::ledger::fold::Ledger;

impl Ledger {
    pub(super) fn forget(&mut self, forget: &Forget) {
        for id in &forget.snapshots {
            let Some(position) = self.positions.of(id) else { continue };
            let record = &mut self.snapshots[position];
            if !record.forgotten && self.positions.forget(position, record) {
                self.manifests.remove(&record.snapshot.manifest.sha256);
            }
            record.forgotten = true;
        }
    }

    pub(super) fn repack(&mut self, at: Numbered, mover: KeyId, repack: &Repack) {
        for pack in &repack.added {
            let object = ObjectRef { sha256: pack.sha256, size: pack.size };
            if !self.has_pack(&pack.sha256) {
                self.movers.insert(pack.sha256, [&pack.movers[..], &[mover]].concat());
            }
            self.add_packs(at, pack.signer, repack.epoch, &[object]);
        }
        self.remove_all(&repack.packs);
    }

    pub(super) fn erase(&mut self, at: Numbered, signer: KeyId, erase: &Erase) {
        for replaced in &erase.manifests {
            self.replace_manifest(replaced, erase.session);
        }
        self.add_packs(at, signer, erase.epoch, &erase.packs);
    }

    /// Takes back what a forget or prune removed.
    pub(super) fn readmit(&mut self, readmit: &Readmit) {
        for id in &readmit.snapshots {
            self.readmit_snapshot(id);
        }
        for digest in &readmit.manifests {
            self.readmit_manifest(*digest);
        }
        for digest in &readmit.packs {
            if let Some(pack) = self.removed_packs.get(digest) {
                self.inventory.add(*pack);
            }
        }
    }

    fn readmit_snapshot(&mut self, id: &Digest) {
        let Some(position) = self.positions.of(id) else { return };
        let record = &mut self.snapshots[position];
        let manifest = record.snapshot.manifest.sha256;
        // Otherwise what was erased would come back.
        if !record.forgotten || self.erased.contains(&manifest) {
            return;
        }
        record.forgotten = false;
        self.positions.readmit(position, &manifest);
        if !self.removed.contains(&manifest) {
            self.readmit_manifest(manifest);
        }
    }

    fn readmit_manifest(&mut self, sha256: Digest) {
        let is_needed = self.positions.has_manifest(&sha256) && !self.erased.contains(&sha256);
        if let Some(size) = self.manifest_sizes.get(&sha256).copied().filter(|_| is_needed) {
            self.add_manifest(ObjectRef { sha256, size });
        }
    }

    fn replace_manifest(&mut self, replaced: &ReplacedManifest, session: SessionId) {
        self.erased.insert(replaced.old);
        self.manifests.remove(&replaced.old);
        self.add_manifest(replaced.new);
        for position in self.positions.replace(replaced) {
            self.snapshots[position].replace_manifest(replaced.new, session);
        }
    }

    pub(super) fn prune(&mut self, prune: &Prune) {
        self.remove_all(&prune.packs);
        self.remove_all(&prune.manifests);
    }

    fn remove_all(&mut self, digests: &[Digest]) {
        for digest in digests {
            if let Some(pack) = self.inventory.remove(digest) {
                self.removed_packs.entry(*digest).or_insert(pack);
            }
            self.manifests.remove(digest);
            self.removed.insert(*digest);
        }
    }
}
