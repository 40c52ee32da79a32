//! The newest entry of each chain that commands on this host have seen, so that a chain that went back is noticed.
//!
//! There is one file for each repository in each place, because a copy in another place may lag. A failure to read or
//! write it is never an error: without it, an entry that is missing at the end of a chain is not noticed. A head that
//! was remembered before a chain is read must be in the chain. So two commands at once cannot mislead each other.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{Digest, RepositoryId, SourceId};
use crate::format::entry::Numbered;
use crate::format::name::Name;

/// How often, and after which pause, a lock is tried that another command holds for a few milliseconds.
const LOCK_ATTEMPTS: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A chain of a repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChainId {
    Roster,
    Ledger(SourceId),
}

impl ChainId {
    /// The name of an entry.
    #[must_use]
    pub fn entry(self, number: u64) -> Name {
        match self {
            Self::Roster => Name::Roster(number),
            Self::Ledger(source) => Name::Ledger(source, number),
        }
    }

    /// The source, if it is a ledger.
    #[must_use]
    pub fn source(self) -> Option<SourceId> {
        match self {
            Self::Roster => None,
            Self::Ledger(source) => Some(source),
        }
    }
}

/// A chain as it was read.
pub(super) struct SeenChain<'a> {
    pub(super) repository: RepositoryId,
    pub(super) chain: ChainId,
    pub(super) digests: &'a [Digest],
    /// Whether an admin gave up an entry.
    pub(super) gave_up: &'a dyn Fn(&Numbered) -> bool,
}

impl SeenChain<'_> {
    /// Why a head that was seen earlier shows that the chain went back.
    fn fault(&self, known: &Numbered) -> Option<String> {
        if (self.gave_up)(known) { None } else { head_fault(self.digests, known) }
    }

    fn head(&self) -> Option<Numbered> {
        let sha256 = *self.digests.last()?;
        Some(Numbered { number: self.digests.len() as u64, sha256 })
    }
}

/// What happened to an entry that an earlier run saw. `None` if it is still the same.
#[must_use]
pub fn head_fault(digests: &[Digest], known: &Numbered) -> Option<String> {
    let at = usize::try_from(known.number).unwrap_or(usize::MAX).wrapping_sub(1);
    match digests.get(at) {
        Some(found) if *found == known.sha256 => None,
        Some(found) => Some(format!("it was {} in an earlier run and is now {found}", known.sha256)),
        None => {
            let seen = format!("an earlier run saw it with SHA-256 {}", known.sha256);
            Some(format!("{seen}, but the chain now ends at number {}", digests.len()))
        }
    }
}

/// What a file contains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct RememberedHeads {
    repository: RepositoryId,
    place: String,
    roster: Option<Numbered>,
    ledgers: BTreeMap<SourceId, Numbered>,
}

impl RememberedHeads {
    fn of(&self, chain: ChainId) -> Option<Numbered> {
        match chain {
            ChainId::Roster => self.roster,
            ChainId::Ledger(source) => self.ledgers.get(&source).copied(),
        }
    }

    fn set(&mut self, chain: ChainId, head: Numbered) {
        match chain {
            ChainId::Roster => self.roster = Some(head),
            ChainId::Ledger(source) => drop(self.ledgers.insert(source, head)),
        }
    }
}

/// The heads that this host remembers of the repositories in one place, and which chains went back.
#[derive(Debug)]
pub struct HeadMemory {
    dir: PathBuf,
    place: String,
    /// By chain; `None` is the file itself.
    findings: Mutex<BTreeMap<Option<ChainId>, Finding>>,
}

impl HeadMemory {
    /// Keeps heads below `dir`, which need not exist yet. `place` tells this store from all others.
    #[must_use]
    pub fn at(dir: &Path, place: &str) -> Self {
        Self { dir: dir.join("heads"), place: place.to_owned(), findings: Mutex::default() }
    }

    /// What is wrong with the chains that were read so far.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.found().values().cloned().collect()
    }

    /// What is wrong with a chain that was read: it lacks an entry that this host saw.
    pub(super) fn fault(&self, chain: ChainId) -> Option<Finding> {
        self.found().get(&Some(chain)).cloned()
    }

    /// The newest entry of a chain that this host saw. Ask before the chain is read, and pass the answer to
    /// [`Self::compare`].
    pub(super) fn recall(&self, repository: RepositoryId, chain: ChainId) -> Option<Numbered> {
        match self.read(repository) {
            Ok(heads) => heads.and_then(|heads| heads.of(chain)),
            Err(error) => {
                self.found().insert(None, self.damaged(repository, &error));
                None
            }
        }
    }

    /// Compares a chain with what was known before it was read. If nothing is missing, remembers its head.
    pub(super) fn compare(&self, seen: &SeenChain<'_>, known: Option<Numbered>) {
        let fault = known.and_then(|known| Some((known, seen.fault(&known)?)));
        let Some((known, fault)) = fault else {
            self.found().remove(&Some(seen.chain));
            return self.remember(seen.repository, seen.chain, seen.head(), |current| seen.fault(current).is_none());
        };
        let finding = self.went_back(seen, known, &fault);
        self.found().insert(Some(seen.chain), finding);
    }

    /// Remembers an entry that this command has just written.
    pub(super) fn written(&self, repository: RepositoryId, chain: ChainId, entry: Numbered) {
        self.remember(repository, chain, Some(entry), |current| current.number < entry.number);
    }

    fn went_back(&self, seen: &SeenChain<'_>, known: Numbered, fault: &str) -> Finding {
        let mut finding = Finding::new(FindingKind::RolledBack, seen.chain.entry(known.number), fault);
        finding.source = seen.chain.source();
        finding.with_remedy(format!(
            "find out who restored an older copy of the store or deleted objects from it, and undo that; if the older \
             state is what you want, delete {}",
            self.file(seen.repository).display()
        ))
    }

    fn damaged(&self, repository: RepositoryId, error: &io::Error) -> Finding {
        let detail = format!("the newest entries that earlier runs saw cannot be read: {error}");
        Finding::note(self.file(repository).display(), detail)
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<Option<ChainId>, Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, repository: RepositoryId) -> PathBuf {
        let place = Digest::of(self.place.as_bytes()).to_string();
        self.dir.join(format!("{repository}-{}.json", &place[..16]))
    }

    /// Fails if there is a file that cannot be read.
    fn read(&self, repository: RepositoryId) -> io::Result<Option<RememberedHeads>> {
        let bytes = match fs::read(self.file(repository)) {
            Err(error) if is_absent(&error) => return Ok(None),
            answer => answer?,
        };
        let heads: RememberedHeads = serde_json::from_slice(&bytes)?;
        if heads.repository != repository || heads.place != self.place {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is about another repository"));
        }
        Ok(Some(heads))
    }

    /// Replaces the remembered head, if there is one, where `may_replace` allows it: another command may have seen a
    /// newer entry in the meantime.
    fn remember(
        &self,
        repository: RepositoryId,
        chain: ChainId,
        head: Option<Numbered>,
        may_replace: impl Fn(&Numbered) -> bool,
    ) {
        let Some(head) = head else { return };
        let remembered = self.read(repository).ok().flatten().and_then(|heads| heads.of(chain));
        if remembered == Some(head) {
            return;
        }
        if let Err(error) = self.replace(repository, chain, head, may_replace) {
            let file = self.file(repository);
            tracing::warn!(file = %file.display(), %error, "the newest entries cannot be remembered");
        }
    }

    fn replace(
        &self,
        repository: RepositoryId,
        chain: ChainId,
        head: Numbered,
        may_replace: impl Fn(&Numbered) -> bool,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let file = self.file(repository);
        let _lock = lock(&file.with_extension("lock"))?;
        let mut heads = self.read(repository).ok().flatten().unwrap_or_else(|| self.nothing(repository));
        if heads.of(chain).is_none_or(|current| may_replace(&current)) {
            heads.set(chain, head);
            write(&file, &serde_json::to_vec_pretty(&heads)?)?;
        }
        Ok(())
    }

    fn nothing(&self, repository: RepositoryId) -> RememberedHeads {
        RememberedHeads { repository, place: self.place.clone(), roster: None, ledgers: BTreeMap::new() }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Held until the file is dropped, or the process ends.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Written atomically, because a reader takes no lock.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ChainId, HeadMemory, SeenChain};
    use crate::base::id::{Digest, RepositoryId, SourceId};
    use crate::format::entry::Numbered;

    const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);
    const LEDGER: ChainId = ChainId::Ledger(SourceId::new([2; 16]));

    fn digests(entries: u64) -> Vec<Digest> {
        (1..=entries).map(|n| Digest::of(&n.to_le_bytes())).collect()
    }

    fn head(number: u64) -> Numbered {
        Numbered { number, sha256: Digest::of(&number.to_le_bytes()) }
    }

    /// Compares a chain of this many entries with what was known before it was read.
    fn compare(memory: &HeadMemory, entries: u64, known: Option<Numbered>) {
        let digests = digests(entries);
        let seen = SeenChain { repository: REPOSITORY, chain: LEDGER, digests: &digests, gave_up: &|_| false };
        memory.compare(&seen, known);
    }

    #[test]
    fn a_slower_command_does_not_take_a_head_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = HeadMemory::at(dir.path(), "here");
        let known = memory.recall(REPOSITORY, LEDGER);
        memory.written(REPOSITORY, LEDGER, head(7));
        compare(&memory, 5, known);
        memory.written(REPOSITORY, LEDGER, head(6));
        assert_eq!((memory.recall(REPOSITORY, LEDGER), memory.findings().len()), (Some(head(7)), 0));
        compare(&memory, 5, memory.recall(REPOSITORY, LEDGER));
        assert_eq!((memory.recall(REPOSITORY, LEDGER), memory.findings().len()), (Some(head(7)), 1));
        compare(&memory, 8, memory.recall(REPOSITORY, LEDGER));
        assert_eq!((memory.recall(REPOSITORY, LEDGER), memory.findings().len()), (Some(head(8)), 0));
        assert_eq!(HeadMemory::at(dir.path(), "elsewhere").recall(REPOSITORY, LEDGER), None);
    }

    #[test]
    fn commands_at_the_same_time_lose_no_head() {
        let dir = tempfile::tempdir().expect("a directory");
        let chain = |thread: u8| ChainId::Ledger(SourceId::new([thread; 16]));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let dir = dir.path();
                scope.spawn(move || {
                    for number in 1..=20 {
                        HeadMemory::at(dir, "here").written(REPOSITORY, chain(thread), head(number));
                    }
                });
            }
        });
        let memory = HeadMemory::at(dir.path(), "here");
        for thread in 0..8 {
            assert_eq!(memory.recall(REPOSITORY, chain(thread)), Some(head(20)));
        }
    }
}
