//! A repository in memory with its keys, and helpers that sign any statement with any of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use sidekeep::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use sidekeep::base::revocation::RevocationReason;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::base::time::Moment;
use sidekeep::crypto::role::Identity;
use sidekeep::format::dsse;
use sidekeep::format::entry::{ChainPlace, Entry, EntryBody, Numbered, ObjectRef, Prune, Revoke, Snapshot};
use sidekeep::format::name::Name;
use sidekeep::format::roster::{Enrol, RosterStatement};
use sidekeep::repo::append::{Appended, Signer, append};
use sidekeep::repo::error::RepoError;
use sidekeep::repo::ledger::Ledger;
use sidekeep::repo::open::Repository;

use crate::support::stores::damage;
use crate::support::world::{SOURCE, World};

/// A repository with one source and an empty ledger.
pub struct Fixture {
    world: World,
    pub memory: Arc<InMemory>,
    pub source: SourceId,
}

impl Deref for Fixture {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Fixture {
    pub fn new() -> Self {
        let (world, memory) = World::in_memory_of(11);
        let source = world.source(SOURCE);
        Self { world, memory, source }
    }

    /// Generates a new key and enrols it as the admin.
    pub fn enrol(&self, role: Role, sources: Option<SourceScope>) -> Identity {
        let identity = Identity::generate(&*self.env, role, self.repository().id());
        let (public, key) = (identity.public(), identity.key_id());
        let (signing, sealing) = (*public.signing.as_bytes(), public.sealing.to_bytes());
        let label = format!("another {role}");
        self.state(Role::Admin, vec![RosterStatement::Enrol(Enrol { key, role, signing, sealing, label, sources })]);
        identity
    }

    /// A key that is not enrolled.
    pub fn stranger(&self, role: Role) -> Identity {
        Identity::generate(&*self.env, role, self.repository().id())
    }

    /// The repository, opened through another store.
    pub fn over(&self, store: Arc<dyn ObjectStore>) -> Result<Repository, RepoError> {
        self.beside(store).try_repository()
    }

    pub fn ledger(&self) -> Ledger {
        self.try_ledger().expect("folds")
    }

    pub fn try_ledger(&self) -> Result<Ledger, RepoError> {
        Ledger::load(&self.repository(), self.source)
    }

    /// Overwrites an object, as anyone with the store's credentials can.
    pub fn put(&self, name: &Name, bytes: impl Into<Bytes>) {
        self.runtime.block_on(damage::overwrite(&*self.memory, &name.to_string(), bytes.into()));
    }

    /// Overwrites the entry at a number of the ledger.
    pub fn put_entry(&self, number: u64, bytes: impl Into<Bytes>) {
        self.put(&Name::Ledger(self.source, number), bytes);
    }

    pub fn get(&self, name: &Name) -> Bytes {
        self.runtime.block_on(damage::read(&*self.memory, &name.to_string()))
    }

    /// The place after the head.
    pub fn place(&self) -> ChainPlace {
        self.ledger().next_place().expect("a place")
    }

    /// Signed bytes of an entry after the head, with its place changed by `change`.
    pub fn entry(&self, body: EntryBody, by: &Identity, change: impl FnOnce(&mut ChainPlace)) -> Vec<u8> {
        let mut place = self.place();
        change(&mut place);
        self.sign(&Entry { place, written: self.env.now(), body }, by)
    }

    pub fn sign(&self, entry: &Entry, by: &Identity) -> Vec<u8> {
        dsse::encode(entry, by.key_id(), |message| by.sign(message)).expect("encodes")
    }

    /// Appends an entry as the program does.
    pub fn append(&self, body: EntryBody, by: &Identity) -> Result<Appended, RepoError> {
        append_to(&self.repository(), &self.ledger(), body, by)
    }

    pub fn appended(&self, body: EntryBody, by: &Identity) -> Numbered {
        match self.append(body, by) {
            Ok(Appended::Done(at)) => at,
            other => panic!("{other:?}"),
        }
    }

    /// Stores signed bytes at the next number. Returns why they are void, or `None` if they count.
    pub fn why_void(&self, bytes: Vec<u8>) -> Option<String> {
        let number = self.ledger().digests.len() as u64 + 1;
        self.put_entry(number, bytes);
        let ledger = self.ledger();
        assert_eq!(ledger.digests.len() as u64, number, "an entry uses up its number even if it is void");
        ledger.voids.iter().find(|(at, _)| at.number == number).map(|(_, reason)| reason.clone())
    }
}

pub fn append_to(
    repository: &Repository,
    ledger: &Ledger,
    body: EntryBody,
    by: &Identity,
) -> Result<Appended, RepoError> {
    let sign = |message: &[u8]| by.sign(message);
    append(repository, &Signer { key: by.key_id(), role: by.role(), sign: &sign }, ledger, body)
}

pub fn digest(n: u8) -> Digest {
    Digest::new([n; 32])
}

pub fn object(n: u8) -> ObjectRef {
    ObjectRef { sha256: digest(n), size: u64::from(n) }
}

/// A snapshot as of second `n`, with one pack. Distinct for each `n`.
pub fn snapshot(n: u8) -> Snapshot {
    let mut snapshot = Snapshot::new(Moment(i64::from(n) * 1_000_000), object(n), SessionId::new([n; 16]), Epoch(1));
    snapshot.packs = vec![object(100 + n)];
    snapshot
}

pub fn prune(packs: &[u8]) -> EntryBody {
    let packs = packs.iter().map(|n| digest(*n)).collect();
    EntryBody::Prune(Prune { packs, manifests: vec![] })
}

pub fn revoke(key: KeyId) -> Revoke {
    Revoke { key, reason: RevocationReason::Stolen }
}

/// A store with an outdated listing: hidden objects can be read but are not listed.
#[derive(Debug)]
pub struct Behind {
    inner: Arc<InMemory>,
    hidden: Vec<String>,
}

impl Behind {
    pub fn hiding(inner: Arc<InMemory>, hidden: &[Name]) -> Arc<Self> {
        let hidden = hidden.iter().map(ToString::to_string).collect();
        Arc::new(Self { inner, hidden })
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Behind({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Behind {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, _: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        panic!("multipart upload: {path}");
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let hidden = self.hidden.clone();
        let shown = move |meta: &StoreResult<ObjectMeta>| {
            let hide = meta.as_ref().is_ok_and(|meta| hidden.iter().any(|name| name == meta.location.as_ref()));
            std::future::ready(!hide)
        };
        self.inner.list(prefix).filter(shown).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        panic!("copy: {from}");
    }
}
