//! Seals and opens manifests. What can be opened depends on the role: every role opens the summary and the roots,
//! operators and admins the catalog, and admins the root ranges and secrets.

use bytes::Bytes;

use crate::base::causes::describe;
use crate::base::frame::{FrameContext, FrameType, SessionWrap, Tier};
use crate::base::id::{Digest, SessionId};
use crate::base::json;
use crate::base::limit::{Limit, LimitError, MANIFEST_BYTES_MAX, MANIFEST_CONTENT_BYTES_MAX, SECTION_PART_BYTES};
use crate::crypto::role::RoleKeys;
use crate::crypto::seal::Opener;
use crate::crypto::session::SessionKeys;
use crate::format::catalog::Catalog;
use crate::format::codec;
use crate::format::entry::ObjectRef;
use crate::format::losses::Losses;
use crate::format::manifest::{
    SECTIONS, SealedManifest, SealedSection, Secrets, Summary, TreeRoot, read_root_ranges, read_roots,
    write_root_ranges, write_roots,
};
use crate::format::name::Name;
use crate::format::node::Skeleton;
use crate::format::wire::WireError;
use crate::repo::error::{InObject, RepoError};
use crate::repo::manifest_parts::{JoinedParts, SectionSealer, THIS_MANIFEST};
use crate::repo::open::Unlocked;

/// The content of a manifest to be written.
#[derive(Debug)]
pub struct ManifestDraft {
    pub summary: Summary,
    pub catalog: Catalog,
    pub roots: Vec<TreeRoot>,
    pub secrets: Secrets,
    pub losses: Losses,
    /// The wrap of the manifest's own session.
    pub wrap: SessionWrap,
}

const FEWER: &str = "nothing was committed; the database has too many tables, columns or long names for one snapshot: \
                     divide it into several databases, and back up each as a source";

/// How large a manifest may be.
#[derive(Clone, Copy, Debug)]
pub struct ManifestLimits {
    /// Content of a part of a section.
    pub part_bytes: usize,
    /// Content of all sections.
    pub content_bytes: u64,
    /// The stored object.
    pub stored_bytes: usize,
}

impl Default for ManifestLimits {
    fn default() -> Self {
        Self {
            part_bytes: SECTION_PART_BYTES,
            content_bytes: MANIFEST_CONTENT_BYTES_MAX,
            stored_bytes: MANIFEST_BYTES_MAX,
        }
    }
}

impl ManifestLimits {
    fn content(&self) -> Limit {
        Limit { most: self.content_bytes, unit: "bytes of content", remedy: FEWER }
    }

    fn check_stored(&self, bytes: usize) -> Result<(), LimitError> {
        Limit::bytes(self.stored_bytes, FEWER).check(THIS_MANIFEST, bytes as u64)
    }
}

/// Seals a manifest and returns its bytes, after opening them again as far as `unlocked` can.
/// Fails if the manifest exceeds a limit, if the session has no sealer left, if memory runs out, or if a reader would
/// not find what `draft` says (`RepoError::NotReadable`).
pub fn seal(
    unlocked: &Unlocked,
    draft: &ManifestDraft,
    keys: &SessionKeys,
    limits: &ManifestLimits,
) -> Result<Vec<u8>, RepoError> {
    let bytes = draft.seal(keys, limits)?;
    limits.check_stored(bytes.len())?;
    match read_back(unlocked, draft, &bytes, keys.context()) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(RepoError::NotReadable { reason: describe(&error) }),
    }
}

impl ManifestDraft {
    fn seal(&self, keys: &SessionKeys, limits: &ManifestLimits) -> Result<Vec<u8>, RepoError> {
        let mut manifest = self.unsealed(keys);
        let mut sealer = SectionSealer::new(keys, manifest.section_id(), limits.part_bytes, limits.content())?;
        for kind in SECTIONS {
            self.seal_section(kind, &mut sealer)?;
        }
        manifest.sections = sealer.into_parts();
        Ok(manifest.to_bytes())
    }

    /// The manifest without its sections.
    fn unsealed(&self, keys: &SessionKeys) -> SealedManifest {
        let FrameContext { repository, source, epoch } = keys.context();
        SealedManifest {
            repository,
            source,
            epoch,
            session: keys.session(),
            ordinal: 0,
            wrap: self.wrap.clone(),
            sections: Vec::new(),
        }
    }

    fn seal_section(&self, section: FrameType, sealer: &mut SectionSealer) -> Result<(), RepoError> {
        match section {
            FrameType::Summary => sealer.seal_json(section, &self.summary),
            FrameType::Catalog => sealer.seal_json(section, &self.catalog),
            FrameType::Roots => sealer.seal(section, &write_roots(&self.roots)),
            FrameType::RootRanges => sealer.seal(section, &write_root_ranges(&self.roots)),
            FrameType::Losses => sealer.seal_json(section, &self.losses),
            _ => sealer.seal_json(section, &self.secrets),
        }
    }
}

/// Fails unless a reader finds in `bytes` what `draft` says, as far as `unlocked` can open it. Needs no request.
fn read_back(unlocked: &Unlocked, draft: &ManifestDraft, bytes: &[u8], context: FrameContext) -> Result<(), RepoError> {
    let name = Name::Manifest(context.source, Digest::of(bytes));
    let manifest = read_sealed(name, bytes, &context)?;
    let mut sections = SectionReader { name, manifest: &manifest, unlocked, context, data: None };
    sections.check("wrap", manifest.wrap == draft.wrap)?;
    let summary = sections.summary()?;
    sections.check("summary", summary == draft.summary)?;
    sections.check_catalog(unlocked.epoch(context.epoch)?, &draft.catalog)?;
    let roots = sections.roots()?;
    sections.check("roots", have_equal_skeletons(&roots, &draft.roots))?;
    roots.iter().try_for_each(|root| Skeleton::read(&root.skeleton).map(drop)).in_object(name)
}

fn have_equal_skeletons(one: &[TreeRoot], other: &[TreeRoot]) -> bool {
    let facts = |root: &TreeRoot| (root.table, root.kind, root.place);
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| facts(one) == facts(other) && one.skeleton == other.skeleton)
}

/// A manifest, opened as far as the key allows.
#[derive(Debug)]
pub struct OpenManifest {
    pub context: FrameContext,
    pub session: SessionId,
    pub wrap: SessionWrap,
    pub summary: Summary,
    pub catalog: Option<Catalog>,
    /// With ranges if the key can open them.
    pub roots: Vec<TreeRoot>,
    pub secrets: Option<Secrets>,
    /// Rows and values that could not be read or stored, if the key can open them.
    pub losses: Option<Losses>,
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
/// Fails if the object is missing, does not match its digest or belongs elsewhere, if the key was not granted the epoch
/// or the source, if a section that it should open is damaged or (except for catalog and secrets) missing, or if the
/// store fails.
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
    let mut losses = None;
    if depth == Depth::Role && keys.admin().is_some() {
        secrets = sections.json(FrameType::Secrets)?;
        losses = sections.json(FrameType::Losses)?;
        sections.add_ranges(&mut roots)?;
    }
    let SealedManifest { session, wrap, .. } = manifest;
    let size = bytes.len() as u64;
    Ok(OpenManifest { context, session, wrap, summary, catalog, roots, secrets, losses, size })
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

fn with_shared_names(mut catalog: Catalog) -> Catalog {
    catalog.share_names();
    catalog
}

/// Opens the sections of a manifest.
struct SectionReader<'a> {
    name: Name,
    manifest: &'a SealedManifest,
    unlocked: &'a Unlocked,
    context: FrameContext,
    data: Option<Opener>,
}

impl<'a> SectionReader<'a> {
    /// The content of a section. `None` if the manifest has no such section.
    fn content(&mut self, kind: FrameType) -> Result<Option<Vec<u8>>, RepoError> {
        let mut parts = self.parts(kind);
        let Some(first) = parts.next() else { return Ok(None) };
        let mut content = self.content_of(first)?;
        for part in parts {
            let mut part = self.content_of(part)?;
            content.reserve_exact(part.len());
            content.append(&mut part);
        }
        Ok(Some(content))
    }

    fn parts(&self, kind: FrameType) -> impl Iterator<Item = &'a SealedSection> + use<'a> {
        self.manifest.sections.iter().filter(move |part| part.kind == kind)
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
        self.unlocked.data_opener(&self.context, &self.manifest.wrap)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, kind: FrameType) -> Result<Option<T>, RepoError> {
        let Some(content) = self.content(kind)? else { return Ok(None) };
        match json::check(&content).and_then(|()| serde_json::from_slice(&content)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    fn summary(&mut self) -> Result<Summary, RepoError> {
        self.json(FrameType::Summary)?.ok_or_else(|| self.damaged("it has no summary"))
    }

    /// Fails if the catalog differs from what was written. Without keys for it, nothing is checked. Of several parts,
    /// only one is in memory.
    fn check_catalog(&mut self, keys: &RoleKeys, written: &Catalog) -> Result<(), RepoError> {
        let parts: Vec<&SealedSection> = self.parts(FrameType::Catalog).collect();
        if keys.ids().is_none() || parts.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        let mut parts = parts.into_iter();
        let mut next = || parts.next().map(|part| self.content_of(part)).transpose();
        let is_as_written = written.is_stored_as(&mut JoinedParts::new(&mut next, &mut failed));
        match failed {
            Some(error) => Err(error),
            None => self.check("catalog", is_as_written),
        }
    }

    /// The catalog, if the role has keys for it.
    fn catalog(&mut self, keys: &RoleKeys) -> Result<Option<Catalog>, RepoError> {
        match keys.ids() {
            Some(_) => Ok(self.json(FrameType::Catalog)?.map(with_shared_names)),
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

    /// Fails if a part of the manifest is not what was written.
    fn check(&self, part: &str, is_as_written: bool) -> Result<(), RepoError> {
        if is_as_written { Ok(()) } else { Err(self.damaged(format!("its {part} differ from what was written"))) }
    }

    fn damaged(&self, reason: impl Into<String>) -> RepoError {
        RepoError::damaged(self.name, reason)
    }

    fn undecodable(&self, error: &WireError) -> RepoError {
        RepoError::wire(self.name, error)
    }
}
