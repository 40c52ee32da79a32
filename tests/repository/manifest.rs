//! Manifests: sections in parts, the limits that a writer keeps, and that it reads what it sealed.

use sidekeep::base::frame::{FrameContext, SessionWrap};
use sidekeep::base::id::{Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::entry::ObjectRef;
use sidekeep::format::manifest::SealedManifest;
use sidekeep::format::name::Name;
use sidekeep::repo::error::RepoError;
use sidekeep::repo::manifest::{Depth, ManifestDraft, ManifestLimits, OpenManifest, open, seal};

use crate::support::world::data::create_service;
use crate::support::world::{SOURCE, World};

/// A world with one snapshot.
struct Sealing {
    world: World,
    context: FrameContext,
}

impl Sealing {
    fn new() -> Self {
        let world = World::in_memory().0;
        let database = world.path("live.sqlite");
        create_service(&database, 10);
        world.backup(&database);
        let context =
            FrameContext { repository: world.repository().id(), source: world.source(SOURCE), epoch: Epoch(1) };
        Self { world, context }
    }

    fn open(&self, role: Role, object: ObjectRef) -> Result<OpenManifest, RepoError> {
        open(&self.world.unlock(role), self.context, object, Depth::Role)
    }

    /// What the snapshot's manifest says, to be sealed again in a new session.
    fn draft(&self) -> (ManifestDraft, SessionKeys) {
        let object = self.world.ledger(SOURCE).snapshots[0].snapshot.manifest;
        let opened = self.open(Role::Admin, object).expect("opens");
        let OpenManifest { summary, catalog, roots, secrets, losses, .. } = opened;
        let operator = self.world.unlock(Role::Operator);
        let keys = operator.source_keys(self.context.source, Epoch(1), "a test").expect("keys");
        let restore = self.world.repository().roster().restore_key(Epoch(1)).expect("a key");
        let created = SessionKeys::create(&*self.world.env, &restore, &keys.structure, &keys.ids);
        let (session, wrap) = created.expect("a session");
        let catalog = catalog.expect("a catalog");
        let secrets = secrets.expect("secrets");
        let losses = losses.expect("losses");
        (ManifestDraft { summary, catalog, roots, secrets, losses, wrap }, session)
    }

    fn seal(&self, change: impl FnOnce(&mut ManifestDraft), limits: &ManifestLimits) -> Result<Vec<u8>, RepoError> {
        let (mut draft, session) = self.draft();
        change(&mut draft);
        seal(&self.world.unlock(Role::Operator), &draft, &session, limits)
    }

    fn store(&self, bytes: Vec<u8>) -> ObjectRef {
        let object = ObjectRef { sha256: Digest::of(&bytes), size: bytes.len() as u64 };
        let name = Name::Manifest(self.context.source, object.sha256);
        self.world.objects().create(&name, bytes.into()).expect("stores");
        object
    }
}

#[test]
fn a_section_in_parts_reads_like_one_in_one_part() {
    let sealing = Sealing::new();
    let whole = sealing.seal(|_| (), &ManifestLimits::default()).expect("seals");
    assert_eq!(SealedManifest::read(&whole).expect("a manifest").sections.len(), 6);
    let limits = ManifestLimits { part_bytes: 100, ..ManifestLimits::default() };
    let parts = sealing.seal(|_| (), &limits).expect("seals");
    let sections = SealedManifest::read(&parts).expect("a manifest").sections;
    assert!(sections.len() > 20, "{}", sections.len());
    assert!(sections.iter().all(|part| (1..=100).contains(&part.content_len)));
    let (whole, parts) = (sealing.store(whole), sealing.store(parts));
    for role in [Role::Auditor, Role::Operator, Role::Admin] {
        let facts = |object| {
            let OpenManifest { summary, catalog, roots, secrets, losses, .. } =
                sealing.open(role, object).expect("opens");
            (summary, catalog, roots, secrets, losses)
        };
        assert_eq!(facts(whole), facts(parts), "{role}");
    }
}

#[test]
fn a_writer_refuses_a_manifest_beyond_a_limit() {
    let sealing = Sealing::new();
    let refused = |change: fn(&mut ManifestDraft), limits: ManifestLimits, words: &str| {
        let error = sealing.seal(change, &limits).expect_err("refused");
        assert!(matches!(error, RepoError::Limit(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let limits = ManifestLimits::default();
    refused(|_| (), ManifestLimits { content_bytes: 1000, ..limits }, "bytes of content, more than the 1000");
    refused(|_| (), ManifestLimits { stored_bytes: 1000, ..limits }, "bytes, more than the 1000");
    sealing.seal(|draft| draft.summary.engine = "x".repeat(3000), &limits).expect("within all limits");
}

#[test]
fn a_writer_refuses_a_manifest_that_does_not_read_back_equal() {
    let sealing = Sealing::new();
    let refused = |change: fn(&mut ManifestDraft), words: &str| {
        let error = sealing.seal(change, &ManifestLimits::default()).expect_err("refused");
        assert!(matches!(error, RepoError::NotReadable { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    // JSON does not distinguish null from nothing.
    refused(|draft| draft.summary.journal = Some(serde_json::Value::Null), "summary");
    refused(|draft| draft.wrap = SessionWrap::new([0; SessionWrap::LEN]), "session of its wrap");
    refused(|draft| draft.roots[0].skeleton.truncate(9), "ends inside");
}
