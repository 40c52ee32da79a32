//! Objects, entries and the fold of the model: what a process can know.

/// A set of objects of the source, one bit each.
pub(super) type Objects = u16;

/// Number of sessions, including the one that committed entry 1 before the model begins.
pub(super) const SESSIONS: usize = 4;
pub(super) const ENTRIES_MAX: usize = 7;

/// The content of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// A chunk that the first snapshot also has.
    Old,
    /// A chunk that is new since the first snapshot.
    New,
    Manifest,
}

pub(super) const fn object(session: usize, content: Content) -> Objects {
    1 << (session * 3 + content as usize)
}

/// A pack that claims to contain the new chunk, planted by someone without a key.
pub(super) const PLANTED: Objects = 1 << (SESSIONS * 3);

/// All packs with `content`, of any session.
pub(super) fn packs(content: Content) -> Objects {
    let all = (0..SESSIONS).fold(0, |all, session| all | object(session, content));
    if content == Content::New { all | PLANTED } else { all }
}

pub(super) fn each(objects: Objects) -> impl Iterator<Item = Objects> {
    (0..16).map(|bit| 1 << bit).filter(move |object| objects & object != 0)
}

pub(super) fn first(objects: Objects) -> Objects {
    objects & objects.wrapping_neg()
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Entry {
    Snapshot {
        session: u8,
        clock: u8,
        /// Already in the inventory.
        shared: Objects,
        /// Own and adopted packs.
        added: Objects,
    },
    /// Own and adopted packs of a snapshot that is yet to be committed.
    Add {
        session: u8,
        added: Objects,
    },
    Forget {
        at: u8,
    },
    Prune {
        by: u8,
        named: Objects,
    },
    /// Garbage, planted by someone without a key.
    Void,
}

/// The entries that exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Chain {
    pub(super) len: u8,
    pub(super) entries: [Entry; ENTRIES_MAX],
}

/// The fold of a chain, as `repo::ledger::Ledger` computes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fold {
    pub(super) inventory: Objects,
    /// All objects that a prune has ever named.
    pub(super) removed: Objects,
    /// Objects needed by snapshots that are not forgotten.
    pub(super) needed: Objects,
    /// Entries that are such snapshots, one bit each.
    pub(super) live: u8,
    /// Clock of the newest such snapshot.
    pub(super) newest: u8,
    /// Sessions that have committed, one bit each.
    pub(super) committed: u8,
}

impl Chain {
    pub(super) fn known(&self) -> &[Entry] {
        &self.entries[..self.len as usize]
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries[self.len as usize] = entry;
        self.len += 1;
    }

    pub(super) fn fold(&self, head: u8) -> Fold {
        let mut fold = Fold::default();
        let entries = &self.entries[..head as usize];
        for (at, entry) in entries.iter().enumerate() {
            match *entry {
                Entry::Snapshot { session, added, .. } => {
                    fold.inventory |= added;
                    fold.committed |= 1 << session;
                    fold.live |= 1 << at;
                }
                Entry::Add { added, .. } => fold.inventory |= added,
                Entry::Forget { at } => {
                    fold.live &= !(1 << at);
                    if let Entry::Snapshot { session, .. } = entries[at as usize] {
                        fold.inventory &= !object(session as usize, Content::Manifest);
                    }
                }
                Entry::Prune { named, .. } => {
                    fold.inventory &= !named;
                    fold.removed |= named;
                }
                Entry::Void => {}
            }
        }
        for (_, clock, needs) in self.live(fold.live) {
            fold.newest = fold.newest.max(clock);
            fold.needed |= needs;
        }
        fold
    }

    /// Session, clock and needs of the entries in `live`.
    pub(super) fn live(&self, live: u8) -> impl Iterator<Item = (u8, u8, Objects)> {
        self.entries.iter().enumerate().filter(move |(at, _)| live & (1 << at) != 0).filter_map(|(_, entry)| {
            match *entry {
                Entry::Snapshot { session, clock, shared, added } => Some((session, clock, shared | added)),
                _ => None,
            }
        })
    }
}
