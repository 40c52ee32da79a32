//! Seals and opens manifests. What can be opened depends on the role: every role opens the summary and the roots,
//! operators and admins the catalog, and admins the root ranges and secrets.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::frame::{FrameContext, FrameType, SessionWrap, Tier};
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::limit::MANIFEST_BYTES_MAX;
use crate::crypto::role::RoleKeys;
use crate::crypto::seal::{Opener, SealError, Sealer};
use crate::crypto::session::SessionKeys;
use crate::format::catalog::Catalog;
use crate::format::codec::{self, Encoder};
use crate::format::entry::ObjectRef;
use crate::format::manifest::{
    SealedManifest, SealedSection, Secrets, Summary, TreeRoot, WrapPage, read_root_ranges, read_roots,
    write_root_ranges, write_roots,
};
use crate::format::name::Name;
use crate::format::wire::WireError;
use crate::repo::error::{InObject, RepoError};
use crate::repo::objects::Objects;
use crate::repo::open::Unlocked;

/// The content of a manifest to be written.
#[derive(Debug)]
pub struct ManifestDraft {
    pub summary: Summary,
    pub catalog: Catalog,
    pub roots: Vec<TreeRoot>,
    pub secrets: Secrets,
    /// Full pages of wraps, then the wraps that do not fill a page.
    pub pages: Vec<Digest>,
    pub wraps: Vec<SessionWrap>,
}

const SEALED_OBJECT: &str = "a manifest";

/// Seals a manifest and returns its bytes.
pub fn seal(draft: &ManifestDraft, keys: &SessionKeys, ordinal: u32) -> Result<Vec<u8>, RepoError> {
    let mut manifest = draft.unsealed(keys, ordinal);
    let mut sections = SectionSealer::new(keys, manifest.section_id())?;
    for (kind, content) in draft.sections() {
        manifest.sections.push(sections.seal(kind, &content)?);
    }
    Ok(manifest.to_bytes())
}

impl ManifestDraft {
    /// The manifest without its sections.
    fn unsealed(&self, keys: &SessionKeys, ordinal: u32) -> SealedManifest {
        let FrameContext { repository, source, epoch } = keys.context();
        SealedManifest {
            repository,
            source,
            epoch,
            session: keys.session(),
            ordinal,
            pages: self.pages.clone(),
            wraps: self.wraps.clone(),
            sections: Vec::new(),
        }
    }

    fn sections(&self) -> [(FrameType, Vec<u8>); 5] {
        [
            (FrameType::Summary, json(&self.summary)),
            (FrameType::Catalog, json(&self.catalog)),
            (FrameType::Roots, write_roots(&self.roots)),
            (FrameType::RootRanges, write_root_ranges(&self.roots)),
            (FrameType::Secrets, json(&self.secrets)),
        ]
    }
}

struct SectionSealer {
    id: ChunkId,
    sealer: Sealer,
    encoder: Encoder,
}

impl SectionSealer {
    fn new(keys: &SessionKeys, id: ChunkId) -> Result<Self, RepoError> {
        let sealer = keys.sealer().map_err(unsealable)?;
        let encoder = Encoder::new().in_object(SEALED_OBJECT)?;
        Ok(Self { id, sealer, encoder })
    }

    fn seal(&mut self, kind: FrameType, content: &[u8]) -> Result<SealedSection, RepoError> {
        let content_len = content.len() as u64;
        let encoded = self.encoder.encode(content, &[]);
        let (codec, mut sealed) = encoded.in_object(SEALED_OBJECT)?;
        let frame_counter = self.sealer.seal(kind, &self.id, &mut sealed).map_err(unsealable)?;
        Ok(SealedSection { kind, codec, frame_counter, content_len, sealed })
    }
}

fn unsealable(source: SealError) -> RepoError {
    RepoError::Seal { what: SEALED_OBJECT, source }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("sections are plain JSON")
}

/// A manifest, opened as far as the key allows.
#[derive(Debug)]
pub struct OpenManifest {
    pub context: FrameContext,
    pub session: SessionId,
    pub pages: Vec<Digest>,
    pub wraps: Vec<SessionWrap>,
    pub summary: Summary,
    pub catalog: Option<Catalog>,
    /// With ranges if the key can open them.
    pub roots: Vec<TreeRoot>,
    pub secrets: Option<Secrets>,
    /// Size of the object in bytes.
    pub size: u64,
}

/// How much of a manifest to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Everything that the role can open.
    Role,
    /// Not the data tier, even if the key could open it.
    Catalog,
}

/// Fetches a manifest, checks it against the ledger's digest, and opens it.
pub fn open(
    unlocked: &Unlocked,
    context: FrameContext,
    object: ObjectRef,
    depth: Depth,
) -> Result<OpenManifest, RepoError> {
    let name = Name::Manifest(context.source, object.sha256);
    let bytes = fetch(unlocked, &name)?;
    let manifest = read_sealed(name, &bytes, &context)?;
    let mut sections = SectionReader { name, manifest: &manifest, unlocked, context, data: None };
    let summary = sections.summary()?;
    let mut roots = sections.roots()?;
    let keys = unlocked.epoch(context.epoch)?;
    let catalog = sections.catalog(keys)?;
    let mut secrets = None;
    if depth == Depth::Role && keys.admin().is_some() {
        secrets = sections.json(FrameType::Secrets)?;
        sections.add_ranges(&mut roots)?;
    }
    let SealedManifest { session, pages, wraps, .. } = manifest;
    Ok(OpenManifest { context, session, pages, wraps, summary, catalog, roots, secrets, size: bytes.len() as u64 })
}

fn fetch(unlocked: &Unlocked, name: &Name) -> Result<Bytes, RepoError> {
    unlocked.repository().objects().get(name, MANIFEST_BYTES_MAX).map_err(RepoError::referenced)
}

fn read_sealed(name: Name, bytes: &[u8], context: &FrameContext) -> Result<SealedManifest, RepoError> {
    if name.digest() != Some(Digest::of(bytes)) {
        return Err(RepoError::damaged(name, "its content does not match the digest in the ledger"));
    }
    let manifest = SealedManifest::read(bytes).in_object(name)?;
    if manifest.context() != *context {
        return Err(RepoError::damaged(name, "it belongs to another repository, source or epoch"));
    }
    Ok(manifest)
}

/// Opens the sections of a manifest.
struct SectionReader<'a> {
    name: Name,
    manifest: &'a SealedManifest,
    unlocked: &'a Unlocked,
    context: FrameContext,
    data: Option<Opener>,
}

impl SectionReader<'_> {
    /// The content of a section. `None` if the manifest has no such section.
    fn content(&mut self, kind: FrameType) -> Result<Option<Vec<u8>>, RepoError> {
        let manifest = self.manifest;
        let section = manifest.sections.iter().find(|section| section.kind == kind);
        section.map(|section| self.content_of(section)).transpose()
    }

    fn content_of(&mut self, section: &SealedSection) -> Result<Vec<u8>, RepoError> {
        let mut content = section.sealed.clone();
        self.open(section, &mut content)?;
        let content = codec::decode(section.codec, content).in_object(self.name)?;
        if content.len() as u64 != section.content_len {
            return Err(self.undecodable(&WireError::Invalid { what: "length of a section" }));
        }
        Ok(content)
    }

    fn open(&mut self, section: &SealedSection, content: &mut Vec<u8>) -> Result<(), RepoError> {
        let id = self.manifest.section_id();
        let opened = match section.kind.tier() {
            Tier::Structure => self.structure_opener()?.open(section.kind, &id, section.frame_counter, content),
            Tier::Catalog => self.catalog_opener()?.open(section.kind, &id, section.frame_counter, content),
            Tier::Data => self.data_opener()?.open(section.kind, &id, section.frame_counter, content),
        };
        opened.in_object(self.name)
    }

    fn structure_opener(&self) -> Result<Opener, RepoError> {
        let FrameContext { source, epoch, .. } = self.context;
        Ok(self.unlocked.structure(source, epoch)?.opener(self.manifest.session))
    }

    fn catalog_opener(&self) -> Result<Opener, RepoError> {
        let FrameContext { source, epoch, .. } = self.context;
        let keys = self.unlocked.source_keys(source, epoch, "reading a catalog")?;
        Ok(keys.ids.opener(self.manifest.session))
    }

    /// The opener for the manifest's own session.
    fn data_opener(&mut self) -> Result<&Opener, RepoError> {
        if self.data.is_none() {
            self.data = Some(self.create_data_opener()?);
        }
        Ok(self.data.as_ref().expect("just set"))
    }

    fn create_data_opener(&self) -> Result<Opener, RepoError> {
        let session = self.manifest.session;
        let wrap = self.manifest.wraps.iter().find(|wrap| wrap.session() == session);
        let wrap = wrap.ok_or_else(|| self.damaged("it lacks the wrap of its own session"))?;
        self.unlocked.data_opener(&self.context, wrap)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, kind: FrameType) -> Result<Option<T>, RepoError> {
        let Some(content) = self.content(kind)? else { return Ok(None) };
        match serde_json::from_slice(&content) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    fn summary(&mut self) -> Result<Summary, RepoError> {
        self.json(FrameType::Summary)?.ok_or_else(|| self.damaged("it has no summary"))
    }

    /// The catalog, if the role has keys for it.
    fn catalog(&mut self, keys: &RoleKeys) -> Result<Option<Catalog>, RepoError> {
        match keys.ids() {
            Some(_) => self.json(FrameType::Catalog),
            None => Ok(None),
        }
    }

    /// The roots, without ranges.
    fn roots(&mut self) -> Result<Vec<TreeRoot>, RepoError> {
        let roots = self.content(FrameType::Roots)?.ok_or_else(|| self.damaged("it has no roots"))?;
        read_roots(&roots).map_err(|error| self.undecodable(&error))
    }

    fn add_ranges(&mut self, roots: &mut [TreeRoot]) -> Result<(), RepoError> {
        let ranges = self.ranges()?;
        if ranges.len() != roots.len() {
            return Err(self.damaged("roots and their ranges do not fit together"));
        }
        for (root, ranges) in roots.iter_mut().zip(ranges) {
            root.ranges = ranges;
        }
        Ok(())
    }

    /// The ranges of all roots.
    fn ranges(&mut self) -> Result<Vec<Vec<u8>>, RepoError> {
        let content = self.content(FrameType::RootRanges)?.ok_or_else(|| self.damaged("it has no root ranges"))?;
        read_root_ranges(&content).map_err(|error| self.undecodable(&error))
    }

    fn damaged(&self, reason: impl Into<String>) -> RepoError {
        RepoError::damaged(self.name, reason)
    }

    fn undecodable(&self, error: &WireError) -> RepoError {
        RepoError::wire(self.name, error)
    }
}

/// Reads a page of session wraps.
pub fn read_page(objects: &Objects, context: FrameContext, digest: Digest) -> Result<Vec<SessionWrap>, RepoError> {
    let name = Name::Wraps(context.source, digest);
    let bytes = objects.get(&name, 1 << 20).map_err(RepoError::referenced)?;
    let page = WrapPage::read(&bytes).in_object(name)?;
    if Digest::of(&bytes) != digest || !is_page_of(&page, &context) {
        return Err(RepoError::damaged(name, "its content does not match the digest in its name"));
    }
    Ok(page.wraps)
}

fn is_page_of(page: &WrapPage, context: &FrameContext) -> bool {
    page.repository == context.repository && page.source == context.source
}

/// The wraps for a new manifest: wraps of the parent snapshot whose sessions are still needed, wraps of adopted
/// sessions, and finally its own.
#[must_use]
pub fn carry_wraps(
    parent: &[SessionWrap],
    is_needed: impl Fn(&SessionId) -> bool,
    adopted: &BTreeMap<SessionId, SessionWrap>,
    own: &SessionWrap,
) -> Vec<SessionWrap> {
    let mut wraps: Vec<SessionWrap> = parent.iter().filter(|wrap| is_needed(&wrap.session())).cloned().collect();
    for (session, wrap) in adopted {
        if is_needed(session) && !has_wrap(&wraps, session) {
            wraps.push(wrap.clone());
        }
    }
    wraps.push(own.clone());
    wraps
}

fn has_wrap(wraps: &[SessionWrap], session: &SessionId) -> bool {
    wraps.iter().any(|wrap| wrap.session() == *session)
}
