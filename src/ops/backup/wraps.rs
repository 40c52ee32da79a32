//! The session wraps of a snapshot (`docs/format.md` section 9). Each is in one place: in a page that earlier snapshots
//! share, or in the manifest itself.

use std::collections::HashSet;

use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, SessionId};
use crate::base::limit::WRAPS_PER_PAGE;
use crate::format::manifest::WrapPage;
use crate::format::name::Name;
use crate::ops::backup::options::BackupMode;
use crate::ops::backup::store_rows::{BackupRun, StoredRows};
use crate::repo::error::RepoError;
use crate::repo::index::Index;
use crate::repo::manifest::{OpenManifest, read_page};

/// The wraps of all sessions whose chunks a snapshot may need.
pub(super) struct SnapshotWraps {
    pub(super) pages: Vec<Digest>,
    /// Wraps that are in no page. The last is this run's own, which opens the manifest.
    pub(super) wraps: Vec<SessionWrap>,
}

/// Collects the wraps of a snapshot, and stores the pages that they fill.
/// Fails if a page cannot be stored.
pub(super) fn snapshot_wraps(
    run: &BackupRun<'_>,
    stored: &StoredRows,
    parent: Option<&OpenManifest>,
    own: &SessionWrap,
) -> Result<SnapshotWraps, RepoError> {
    // Wraps of another epoch are sealed to another restore key.
    let parent = parent.filter(|manifest| manifest.context.epoch == run.epoch);
    let mut snapshot = match parent {
        Some(parent) => inherited(run, stored, parent),
        None => SnapshotWraps { pages: Vec::new(), wraps: wraps_of(run, &sessions_of(&run.known.index)) },
    };
    while let Some(page) = take_page(&mut snapshot.wraps, WRAPS_PER_PAGE) {
        snapshot.pages.push(store_page(run, page)?);
    }
    snapshot.wraps.push(own.clone());
    Ok(snapshot)
}

/// The parent's pages, its wraps that are still needed, and the wraps of sessions that this run adopts.
fn inherited(run: &BackupRun<'_>, stored: &StoredRows, parent: &OpenManifest) -> SnapshotWraps {
    let needed = sessions_of(&run.known.index);
    let mut wraps = parent.wraps.clone();
    wraps.retain(|wrap| needed.contains(&wrap.session()));
    let mut adopted = stored.adopted_sessions(run.known);
    adopted.retain(|session| !wraps.iter().any(|wrap| wrap.session() == *session));
    // An earlier snapshot may have adopted other packs of the same session. The pages say so, and are only read then.
    if !adopted.is_empty() {
        drop_sessions_of_pages(run, parent, &mut adopted);
    }
    wraps.extend(wraps_of(run, &adopted));
    SnapshotWraps { pages: parent.pages.clone(), wraps }
}

/// A page that cannot be read is passed over, so that its wraps are written again.
fn drop_sessions_of_pages(run: &BackupRun<'_>, parent: &OpenManifest, sessions: &mut HashSet<SessionId>) {
    let objects = run.unlocked.repository().objects();
    for page in &parent.pages {
        for wrap in read_page(objects, parent.context, *page).unwrap_or_default() {
            sessions.remove(&wrap.session());
        }
    }
}

fn sessions_of(index: &Index) -> HashSet<SessionId> {
    index.packs().iter().flat_map(|pack| pack.pack.sessions.iter().copied()).collect()
}

/// The wraps of interrupted sessions, if they are in `sessions`.
fn wraps_of(run: &BackupRun<'_>, sessions: &HashSet<SessionId>) -> Vec<SessionWrap> {
    let known = run.known.wraps.iter();
    known.filter(|(session, _)| sessions.contains(session)).map(|(_, wrap)| wrap.clone()).collect()
}

/// Takes the wraps of a page from the front, if there are enough of them.
fn take_page(wraps: &mut Vec<SessionWrap>, page_len: usize) -> Option<Vec<SessionWrap>> {
    (wraps.len() >= page_len).then(|| wraps.drain(..page_len).collect())
}

fn store_page(run: &BackupRun<'_>, wraps: Vec<SessionWrap>) -> Result<Digest, RepoError> {
    let repository = run.unlocked.repository();
    let page = WrapPage { repository: repository.id(), source: run.source, wraps }.to_bytes();
    let digest = Digest::of(&page);
    if run.options.mode == BackupMode::Commit {
        repository.objects().create(&Name::Wraps(run.source, digest), page.into())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::take_page;
    use crate::base::frame::SessionWrap;

    #[test]
    fn every_wrap_is_in_one_place() {
        for count in 0..20u8 {
            let mut wraps: Vec<SessionWrap> = (0..count).map(|n| SessionWrap::new([n; SessionWrap::LEN])).collect();
            let all = wraps.clone();
            let mut placed = Vec::new();
            while let Some(page) = take_page(&mut wraps, 4) {
                assert_eq!(page.len(), 4);
                placed.extend(page);
            }
            assert!(wraps.len() < 4);
            placed.append(&mut wraps);
            assert_eq!(placed, all);
        }
    }
}
