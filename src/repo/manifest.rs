//! Manifests, sealed and opened. What opens depends on the role: the summary and roots for all, the
//! catalog for operators and admins, root ranges and secrets for admins.

use std::collections::BTreeMap;

use crate::base::frame::{FrameContext, FrameType, SessionWrap};
use crate::base::id::{Digest, SessionId};
use crate::base::limit::MANIFEST_BYTES_MAX;
use crate::crypto::seal::{Opener, SealError};
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
use crate::repo::error::RepoError;
use crate::repo::io::Objects;
use crate::repo::open::Unlocked;

/// What a manifest will say.
#[derive(Debug)]
pub struct ManifestDraft {
    pub summary: Summary,
    pub catalog: Catalog,
    pub roots: Vec<TreeRoot>,
    pub secrets: Secrets,
    /// Full pages of wraps, then the wraps that fill none.
    pub pages: Vec<Digest>,
    pub wraps: Vec<SessionWrap>,
}

/// The bytes of a manifest.
pub fn seal(draft: &ManifestDraft, keys: &SessionKeys, ordinal: u32) -> Result<Vec<u8>, RepoError> {
    let FrameContext { repository, source, epoch } = keys.context();
    let what = "a manifest";
    let mut manifest = SealedManifest {
        repository,
        source,
        epoch,
        session: keys.session(),
        ordinal,
        pages: draft.pages.clone(),
        wraps: draft.wraps.clone(),
        sections: Vec::new(),
    };
    let id = manifest.section_id();
    let mut sealer = keys.sealer().map_err(|source| RepoError::Seal { what, source })?;
    let mut encoder = Encoder::new().map_err(|error| RepoError::codec(what, &error))?;
    let contents = [
        (FrameType::Summary, json(&draft.summary)),
        (FrameType::Catalog, json(&draft.catalog)),
        (FrameType::Roots, write_roots(&draft.roots)),
        (FrameType::RootRanges, write_root_ranges(&draft.roots)),
        (FrameType::Secrets, json(&draft.secrets)),
    ];
    for (kind, content) in contents {
        let (codec, mut sealed) = encoder.encode(&content, &[]).map_err(|error| RepoError::codec(what, &error))?;
        let frame_counter = sealer.seal(kind, &id, &mut sealed).map_err(|source| RepoError::Seal { what, source })?;
        manifest.sections.push(SealedSection { kind, codec, frame_counter, content_len: content.len() as u64, sealed });
    }
    Ok(manifest.to_bytes())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("sections are plain JSON")
}

/// A manifest, opened as far as the key goes.
#[derive(Debug)]
pub struct OpenManifest {
    pub context: FrameContext,
    pub session: SessionId,
    pub pages: Vec<Digest>,
    pub wraps: Vec<SessionWrap>,
    pub summary: Summary,
    pub catalog: Option<Catalog>,
    /// With ranges if the key opens them.
    pub roots: Vec<TreeRoot>,
    pub secrets: Option<Secrets>,
    /// Size of the object in bytes.
    pub size: u64,
}

/// How far a manifest is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// What the role at hand opens.
    Role,
    /// Not the data tier, even if the key could.
    Catalog,
}

/// Fetches a manifest, compares it with the ledger's digest and opens it.
pub fn open(
    unlocked: &Unlocked,
    context: FrameContext,
    object: ObjectRef,
    depth: Depth,
) -> Result<OpenManifest, RepoError> {
    let name = Name::Manifest(context.source, object.sha256);
    let bytes = unlocked.repository().objects().get(&name, MANIFEST_BYTES_MAX).map_err(RepoError::referenced)?;
    let damaged = |reason: &str| RepoError::Damaged { object: name.to_string(), reason: reason.to_owned() };
    if Digest::of(&bytes) != object.sha256 {
        return Err(damaged("its content is not what the ledger names"));
    }
    let manifest = SealedManifest::read(&bytes).map_err(|error| RepoError::wire(name, &error))?;
    if (manifest.repository, manifest.source, manifest.epoch) != (context.repository, context.source, context.epoch) {
        return Err(damaged("it belongs to another repository, source or epoch"));
    }
    let mut contents = Contents { name, manifest: &manifest, unlocked, context, data: None };
    let summary = contents.json(FrameType::Summary)?.ok_or_else(|| damaged("it has no summary"))?;
    let roots = contents.get(FrameType::Roots)?.ok_or_else(|| damaged("it has no roots"))?;
    let mut roots = read_roots(&roots).map_err(|error| RepoError::wire(name, &error))?;
    let keys = unlocked.epoch(context.epoch)?;
    let catalog = if keys.ids().is_some() { contents.json(FrameType::Catalog)? } else { None };
    let mut secrets = None;
    if depth == Depth::Role && keys.admin().is_some() {
        secrets = contents.json(FrameType::Secrets)?;
        let ranges = contents.get(FrameType::RootRanges)?.ok_or_else(|| damaged("it has no root ranges"))?;
        let ranges = read_root_ranges(&ranges).map_err(|error| RepoError::wire(name, &error))?;
        if ranges.len() != roots.len() {
            return Err(damaged("roots and their ranges do not fit together"));
        }
        roots.iter_mut().zip(ranges).for_each(|(root, ranges)| root.ranges = ranges);
    }
    let SealedManifest { session, pages, wraps, .. } = manifest;
    Ok(OpenManifest { context, session, pages, wraps, summary, catalog, roots, secrets, size: bytes.len() as u64 })
}

struct Contents<'a> {
    name: Name,
    manifest: &'a SealedManifest,
    unlocked: &'a Unlocked,
    context: FrameContext,
    data: Option<Opener>,
}

impl Contents<'_> {
    fn get(&mut self, kind: FrameType) -> Result<Option<Vec<u8>>, RepoError> {
        use crate::base::frame::Tier;
        let Some(section) = self.manifest.sections.iter().find(|section| section.kind == kind) else { return Ok(None) };
        let mut content = section.sealed.clone();
        let id = self.manifest.section_id();
        let session = self.manifest.session;
        let FrameContext { source, epoch, .. } = self.context;
        let opened = match kind.tier() {
            Tier::Structure => {
                let keys = self.unlocked.structure(source, epoch)?;
                keys.opener(session).open(kind, &id, section.frame_counter, &mut content)
            }
            Tier::Catalog => {
                let keys = self.unlocked.source_keys(source, epoch, "reading a catalog")?;
                keys.ids.opener(session).open(kind, &id, section.frame_counter, &mut content)
            }
            Tier::Data => self.data()?.open(kind, &id, section.frame_counter, &mut content),
        };
        opened.map_err(|error: SealError| RepoError::sealed(self.name, &error))?;
        let content = codec::decode(section.codec, content).map_err(|error| RepoError::codec(self.name, &error))?;
        let complete = content.len() as u64 == section.content_len;
        let damaged = || RepoError::wire(self.name, &WireError::Invalid { what: "length of a section" });
        if complete { Ok(Some(content)) } else { Err(damaged()) }
    }

    /// The opener of the manifest's own session.
    fn data(&mut self) -> Result<&Opener, RepoError> {
        if self.data.is_none() {
            let missing = || RepoError::Damaged {
                object: self.name.to_string(),
                reason: "it lacks the wrap of its own session".to_owned(),
            };
            let session = self.manifest.session;
            let wrap = self.manifest.wraps.iter().find(|wrap| wrap.session() == session).ok_or_else(missing)?;
            let admin = self.unlocked.admin(self.context.epoch, "opening rows")?;
            let opener = admin
                .opener(self.context.source, wrap)
                .map_err(|source| RepoError::Grant { key: self.unlocked.key(), source })?;
            self.data = Some(opener);
        }
        Ok(self.data.as_ref().expect("just set"))
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, kind: FrameType) -> Result<Option<T>, RepoError> {
        let Some(content) = self.get(kind)? else { return Ok(None) };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| RepoError::Damaged { object: self.name.to_string(), reason: error.to_string() })
    }
}

/// Reads a page of session wraps.
pub fn read_page(objects: &Objects, context: FrameContext, digest: Digest) -> Result<Vec<SessionWrap>, RepoError> {
    let name = Name::Wraps(context.source, digest);
    let bytes = objects.get(&name, 1 << 20).map_err(RepoError::referenced)?;
    let page = WrapPage::read(&bytes).map_err(|error| RepoError::wire(name, &error))?;
    if Digest::of(&bytes) != digest || (page.repository, page.source) != (context.repository, context.source) {
        let reason = "its content is not what its name says".to_owned();
        return Err(RepoError::Damaged { object: name.to_string(), reason });
    }
    Ok(page.wraps)
}

/// The wraps that tonight's manifest carries: yesterday's of sessions that are still needed, those of
/// adopted sessions, and its own, last.
#[must_use]
pub fn carry_wraps(
    prior: &[SessionWrap],
    needed: impl Fn(&SessionId) -> bool,
    adopted: &BTreeMap<SessionId, SessionWrap>,
    own: &SessionWrap,
) -> Vec<SessionWrap> {
    let mut wraps: Vec<SessionWrap> = prior.iter().filter(|wrap| needed(&wrap.session())).cloned().collect();
    for wrap in adopted.values().filter(|wrap| needed(&wrap.session())) {
        if wraps.iter().all(|known| known.session() != wrap.session()) {
            wraps.push(wrap.clone());
        }
    }
    wraps.push(own.clone());
    wraps
}
