//! Index fragments in the store: written by whoever stored the packs, believed if signed by somebody
//! whose packs would be believed (`docs/format.md` section 8). A cache: what is missing, damaged or not
//! believed costs the reading of packs' own tables, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest, KeyId};
use crate::base::limit::INDEX_BYTES_MAX;
use crate::base::role::Role;
use crate::crypto::ids::StructureKeys;
use crate::crypto::role::Identity;
use crate::crypto::seal::Sealer;
use crate::crypto::session::SessionKeys;
use crate::crypto::sign::VerifyingKey;
use crate::format::codec;
use crate::format::index::{Fragment, FragmentPack, SealedFragment};
use crate::format::name::Name;
use crate::format::node::FrameLocation;
use crate::format::pack::ordinal_id;
use crate::repo::error::{RepoError, WriteError};
use crate::repo::index::IndexedPack;
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::Ledger;
use crate::store::StoreError;

/// Whose fragments are believed: those of operators of the source whom its ledger trusts. A lie in one is
/// worth what a pack full of garbage is worth, and ends in the same way, with the key's revocation.
#[derive(Clone, Debug)]
pub struct Signers(BTreeMap<KeyId, Option<VerifyingKey>>);

impl Signers {
    /// As of the head of this ledger.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let here = ledger.roster().keys.iter().filter(|(_, key)| {
            key.role == Role::Operator && key.scope.as_ref().is_some_and(|scope| scope.contains(ledger.source))
        });
        Self(here.map(|(id, key)| (*id, ledger.trusts(id).then_some(key.signing))).collect())
    }
}

/// Packs that were written, and where in them what lies.
#[derive(Debug, Default)]
pub struct FragmentDraft {
    packs: Vec<FragmentPack>,
    entries: Vec<(ChunkId, FrameLocation)>,
    sequence: u32,
}

impl FragmentDraft {
    /// Adds a pack and the places in it, whatever the pack's number in them.
    pub fn add(&mut self, pack: IndexedPack, locations: impl Iterator<Item = (ChunkId, FrameLocation)>) {
        let ordinal = self.packs.len() as u32;
        self.packs.push(FragmentPack { pack: pack.pack, size: pack.size, content: pack.content });
        self.entries.extend(locations.map(|(id, location)| (id, FrameLocation { pack: ordinal, ..location })));
    }

    /// Entries so far.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The fragment of what was added since the last one, sealed and signed; `None` if there is none.
    pub fn take(
        &mut self,
        session: &SessionKeys,
        sealer: &mut Sealer,
        identity: &Identity,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        if self.packs.is_empty() {
            return Ok(None);
        }
        let mut fragment =
            Fragment { packs: std::mem::take(&mut self.packs), entries: std::mem::take(&mut self.entries) };
        fragment.entries.sort_unstable_by_key(|entry| entry.0);
        let mut sealed = codec::compress(&fragment.content())?;
        let (context, id, sequence) = (session.context(), session.session(), self.sequence);
        self.sequence += 1;
        let frame_counter = sealer.seal(FrameType::Index, &ordinal_id(id, sequence), &mut sealed)?;
        let fragment = SealedFragment {
            repository: context.repository,
            source: context.source,
            epoch: context.epoch,
            session: id,
            sequence,
            signer: identity.key_id(),
            frame_counter,
            sealed,
        };
        Ok(Some(fragment.to_bytes(|message| identity.sign(message))))
    }
}

/// All fragments that open. Why others do not goes into `notes`.
pub fn read_all(
    objects: &Objects,
    keys: &StructureKeys,
    signers: &Signers,
    notes: &mut Vec<String>,
) -> Result<Vec<Fragment>, RepoError> {
    let listed = objects.list(&format!("{}/index", keys.context().source))?;
    let names: Vec<Name> = listed.iter().filter_map(|listed| Name::parse(&listed.name)).collect();
    let mut fragments = Vec::new();
    let mut take = |name: Name, bytes: Result<Bytes, StoreError>| {
        match bytes.map_err(RepoError::from).and_then(|bytes| open(name, &bytes, keys, signers)) {
            Ok(Some(fragment)) => fragments.push(fragment),
            Ok(None) => {}
            Err(RepoError::Store(error)) if !matches!(error, StoreError::NotFound { .. }) => return Err(error.into()),
            Err(error) => notes.push(format!("index fragment left out: {error}")),
        }
        Ok::<(), RepoError>(())
    };
    let mut reads = Vec::new();
    for &name in &names {
        match objects.cache().and_then(|cache| cache.get(&name)) {
            Some(bytes) => take(name, Ok(bytes))?,
            None => reads.push(Read { name, range: None, bytes_max: INDEX_BYTES_MAX as u64 }),
        }
    }
    objects.get_many(&reads, |at, bytes| {
        if let (Some(cache), Ok(bytes)) = (objects.cache(), &bytes) {
            cache.keep(&reads[at].name, bytes);
        }
        take(reads[at].name, bytes)
    })?;
    if let Some(cache) = objects.cache() {
        cache.retain(keys.context().source, &names);
    }
    Ok(fragments)
}

/// The fragment, or `None` if it is of another epoch or of an operator who was revoked since.
pub fn open(name: Name, bytes: &[u8], keys: &StructureKeys, signers: &Signers) -> Result<Option<Fragment>, RepoError> {
    let (fragment, signed) = SealedFragment::read(bytes).map_err(|error| RepoError::wire(name, &error))?;
    if fragment.epoch != keys.context().epoch {
        return Ok(None);
    }
    let damaged = |reason: String| RepoError::Damaged { object: name.to_string(), reason };
    if name.digest() != Some(Digest::of(bytes)) {
        return Err(damaged("its content is not what its name says".to_owned()));
    }
    let signer = match signers.0.get(&fragment.signer) {
        Some(Some(signer)) => signer,
        Some(None) => return Ok(None),
        None => return Err(damaged(format!("key {}, which it names, is no operator of this source", fragment.signer))),
    };
    if signer.verify(signed.message, signed.signature).is_err() {
        return Err(damaged(format!("it was not signed by key {}, which it names", fragment.signer)));
    }
    let mut content = fragment.sealed;
    keys.opener(fragment.session)
        .open(FrameType::Index, &ordinal_id(fragment.session, fragment.sequence), fragment.frame_counter, &mut content)
        .map_err(|error| RepoError::sealed(name, &error))?;
    let content = codec::decompress(&content).map_err(|error| RepoError::codec(name, &error))?;
    Fragment::read(&content).map(Some).map_err(|error| RepoError::wire(name, &error))
}
