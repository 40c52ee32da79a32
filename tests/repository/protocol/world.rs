//! All steps that can be taken from a state.

use super::chain::{Chain, Content, ENTRIES_MAX, Entry, Fold, Objects, each, first, object, packs};
use super::process::{Action, Bug, PRUNERS, Pruner, RUNS, Reader, State, Writer, WriterPhase};

/// The processes of one enumeration.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    /// The key of each run. Session 0 belongs to key 0.
    pub(super) keys: &'static [u8],
    pub(super) pruners: usize,
    pub(super) first: First,
    pub(super) reader: Reader,
    pub(super) forgets: u8,
    pub(super) garbage: u8,
    pub(super) reappears: u8,
    /// Packs planted by someone without a key.
    pub(super) planted: Objects,
    /// Whether runs may add packs ahead of their snapshots.
    pub(super) ahead: Ahead,
    pub(super) entries: u8,
    pub(super) bug: Bug,
}

/// Whether a snapshot exists when the model begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    Snapshot,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ahead {
    Never,
    Sometimes,
}

impl World {
    pub(super) fn start(&self) -> State {
        let mut chain = Chain { len: 0, entries: [Entry::Void; ENTRIES_MAX] };
        let mut stored = self.planted;
        if self.first == First::Snapshot {
            let added = object(0, Content::Old) | object(0, Content::Manifest);
            stored |= added;
            chain.push(Entry::Snapshot { session: 0, clock: 1, shared: 0, added });
        }
        State {
            stored,
            announced: 0,
            chain,
            writers: [Writer::default(); RUNS],
            pruners: [Pruner::Idle; PRUNERS],
            reader: self.reader,
            forgets_left: self.forgets,
            garbage_left: self.garbage,
            reappears_left: self.reappears,
        }
    }

    /// The head up to which a process sees the chain.
    fn head(&self, state: &State) -> u8 {
        let void = state.chain.known().iter().position(|entry| *entry == Entry::Void);
        match void {
            Some(at) if self.bug == Bug::StopsAtGarbage => at as u8,
            _ => state.chain.len,
        }
    }

    /// All possible steps.
    pub(super) fn steps(&self, state: &State) -> Vec<(Action, State)> {
        let mut next = Vec::new();
        for run in 0..self.keys.len() {
            self.writer_steps(state, run, &mut next);
        }
        for pruner in 0..self.pruners {
            self.pruner_steps(state, pruner, &mut next);
        }
        self.reader_steps(state, &mut next);
        let room = state.chain.len < self.entries;
        if room && state.forgets_left > 0 {
            let live = state.chain.fold(state.chain.len).live;
            for at in (0..state.chain.len).filter(|at| live & (1 << at) != 0) {
                let mut after = State { forgets_left: state.forgets_left - 1, ..*state };
                after.chain.push(Entry::Forget { at });
                next.push((Action::Forgets(at), after));
            }
        }
        if room && state.garbage_left > 0 {
            let mut after = State { garbage_left: state.garbage_left - 1, ..*state };
            after.chain.push(Entry::Void);
            next.push((Action::Garbage, after));
        }
        if state.reappears_left > 0 {
            let deleted = state.chain.fold(state.chain.len).removed & !state.stored;
            for object in each(deleted) {
                let stored = state.stored | object;
                let after = State { stored, reappears_left: state.reappears_left - 1, ..*state };
                next.push((Action::Reappears, after));
            }
        }
        next
    }

    pub(super) fn writer_steps(&self, state: &State, run: usize, next: &mut Vec<(Action, State)>) {
        let writer = &state.writers[run];
        let mut step = |action, writer: Writer, change: &dyn Fn(&mut State)| {
            let mut after = *state;
            after.writers[run] = writer;
            change(&mut after);
            next.push((action, after));
        };
        let unchanged = |_: &mut State| {};
        match writer.phase {
            // Runs begin in order, because any other order is the same except for their names.
            WriterPhase::Idle if run == 0 || state.writers[run - 1].phase != WriterPhase::Idle => {
                let image = Writer { phase: WriterPhase::Imaged, clock: run as u8 + 2, ..*writer };
                step(Action::Images(run), image, &unchanged);
            }
            WriterPhase::Imaged => {
                let head = self.head(state);
                let newer = state.chain.fold(head).newest < writer.clock || self.bug == Bug::CommitsOlder;
                let writer = if newer {
                    Writer { phase: WriterPhase::Folded, head, ..*writer }
                } else {
                    writer.ended(WriterPhase::Overtaken)
                };
                step(Action::Folds(run), writer, &unchanged);
            }
            WriterPhase::Folded => {
                for decided in self.decisions(state, run) {
                    step(Action::Decides(run), decided, &unchanged);
                }
            }
            WriterPhase::Uploading => {
                let object = first(writer.waiting);
                let waiting = writer.waiting & !object;
                let phase = if waiting == 0 { WriterPhase::Committing } else { WriterPhase::Uploading };
                step(Action::Uploads(run), Writer { phase, waiting, ..*writer }, &|after| after.stored |= object);
                if waiting == 0 && self.ahead == Ahead::Sometimes && ahead(writer) != 0 {
                    let writer = Writer { phase: WriterPhase::Adding, waiting, ..*writer };
                    step(Action::Uploads(run), writer, &|after| after.stored |= object);
                }
                let listed = writer.own & !writer.waiting & !packs(Content::Manifest);
                if listed & !state.announced != 0 {
                    step(Action::Announces(run), *writer, &|after| after.announced |= listed);
                }
            }
            WriterPhase::Adding | WriterPhase::Committing => self.commit_steps(state, run, next),
            WriterPhase::LostAdding | WriterPhase::Lost => {
                let head = self.head(state);
                let stands = self.bug == Bug::WriterRenumbers || self.validates(writer, &state.chain.fold(head));
                let adding = writer.phase == WriterPhase::LostAdding;
                let phase = if adding { WriterPhase::Adding } else { WriterPhase::Committing };
                let again = Writer { phase, head, ..*writer };
                let writer = if stands { again } else { writer.ended(WriterPhase::Overtaken) };
                step(Action::Revalidates(run), writer, &unchanged);
            }
            _ => {}
        }
    }

    /// Steps of a writer that has asked the store to create the entry after its head.
    fn commit_steps(&self, state: &State, run: usize, next: &mut Vec<(Action, State)>) {
        let writer = &state.writers[run];
        let (session, clock, shared) = (run as u8 + 1, writer.clock, writer.shared);
        let (mine, action, won, lost) = if writer.phase == WriterPhase::Adding {
            let added = ahead(writer);
            let own = writer.own & !added;
            // The ledger is folded again, and everything that the snapshot relies on is validated.
            let phase = WriterPhase::Lost;
            let won = Writer { phase, head: 0, shared: shared | added, adopted: 0, own, ..*writer };
            (Entry::Add { session, added }, Action::AddsAhead(run), won, WriterPhase::LostAdding)
        } else {
            let entry = Entry::Snapshot { session, clock, shared, added: writer.own | writer.adopted };
            (entry, Action::Applies(run), writer.ended(WriterPhase::Done), WriterPhase::Lost)
        };
        let mut after = *state;
        match state.chain.known().get(writer.head as usize) {
            None if state.chain.len < self.entries => {
                after.chain.push(mine);
                next.push((action, after));
            }
            None => {}
            Some(taken) if *taken == mine => {
                after.writers[run] = won;
                if self.bug == Bug::TrustsWhatItAdded && writer.phase == WriterPhase::Adding {
                    let head = self.head(state);
                    after.writers[run] = Writer { phase: WriterPhase::Committing, head, ..won };
                }
                next.push((Action::Answer(run), after));
            }
            Some(_) => {
                after.writers[run] = Writer { phase: lost, head: 0, ..*writer };
                next.push((Action::Answer(run), after));
            }
        }
        if self.bug == Bug::DeletesUnanswered {
            let mut after = State { stored: state.stored & !writer.own, ..*state };
            after.writers[run] = writer.ended(WriterPhase::CleanedUp);
            next.push((Action::CleansUp(run), after));
        }
    }

    /// Whether everything that `writer` relies on is still valid, as `commit::validate` checks.
    fn validates(&self, writer: &Writer, fold: &Fold) -> bool {
        let manifests = if self.bug == Bug::ForgetsItsManifest { packs(Content::Manifest) } else { 0 };
        let newer = fold.newest < writer.clock || self.bug == Bug::CommitsOlder;
        let own = (writer.own | writer.adopted) & !manifests;
        newer && writer.shared & !fold.inventory == 0 && own & fold.removed == 0
    }

    /// All ways to obtain every chunk of the image, as `known_chunks::load` offers them.
    fn decisions(&self, state: &State, run: usize) -> Vec<Writer> {
        let writer = state.writers[run];
        let fold = state.chain.fold(writer.head);
        let own = writer.own | object(run + 1, Content::Manifest);
        let mut drafts = vec![Writer { phase: WriterPhase::Uploading, own, ..writer }];
        for content in [Content::Old, Content::New] {
            let have = packs(content) & fold.inventory;
            let adoptable = self.adoptable(state, run, &fold) & packs(content);
            let orphans = packs(content) & state.stored & !fold.inventory & !fold.removed;
            drafts = drafts
                .into_iter()
                .flat_map(|draft| {
                    let shared = first(have);
                    if shared != 0 {
                        return vec![Writer { shared: draft.shared | shared, ..draft }];
                    }
                    // A listing may lag behind, so a pack that could be adopted may be uploaded again.
                    let upload = Writer { own: draft.own | object(run + 1, content), ..draft };
                    let adopt = each(adoptable).map(|pack| Writer { adopted: draft.adopted | pack, ..draft });
                    let mut ways: Vec<Writer> = adopt.chain([upload]).collect();
                    if self.bug == Bug::CountsOnOrphans {
                        ways.extend(each(orphans).map(|pack| Writer { shared: draft.shared | pack, ..draft }));
                    }
                    ways
                })
                .collect();
        }
        drafts.iter().map(|draft| Writer { waiting: draft.own, ..*draft }).collect()
    }

    /// Rule L6.
    fn adoptable(&self, state: &State, run: usize, fold: &Fold) -> Objects {
        let readable = state.stored & !fold.inventory;
        let own_key = |session: &usize| self.keys[session - 1] == self.keys[run] && *session != run + 1;
        let open = |session: &usize| fold.committed & (1 << session) == 0;
        let sessions = (1..=self.keys.len()).filter(own_key).filter(open);
        let listed = sessions.fold(0, |all, session| {
            all | (state.announced & (object(session, Content::Old) | object(session, Content::New)))
        });
        match self.bug {
            Bug::AdoptsRemoved => readable & listed,
            Bug::AdoptsUnlisted => readable & !fold.removed,
            _ => readable & listed & !fold.removed,
        }
    }

    fn pruner_steps(&self, state: &State, at: usize, next: &mut Vec<(Action, State)>) {
        let mut step = |action, pruner: Pruner, change: &dyn Fn(&mut State)| {
            let mut after = *state;
            after.pruners[at] = pruner;
            change(&mut after);
            next.push((action, after));
        };
        let unchanged = |_: &mut State| {};
        match state.pruners[at] {
            // In order, as with writers.
            Pruner::Idle if at == 0 || state.pruners[at - 1] != Pruner::Idle => {
                step(Action::PrunerFolds(at), Pruner::Folded { head: self.head(state) }, &unchanged);
            }
            Pruner::Folded { head } => {
                let fold = state.chain.fold(head);
                // A snapshot cannot need what the inventory does not have (L1), so this is not checked.
                let (dead, orphans) = (fold.inventory & !fold.needed, state.stored & !fold.inventory);
                let plan = (dead | orphans) & !fold.removed;
                // What an interrupted prune named and did not delete is deleted without another entry.
                let left = state.stored & fold.removed;
                let pruner = match (plan, left) {
                    (0, 0) => Pruner::Done,
                    (0, left) => Pruner::Deleting { left },
                    (plan, _) => Pruner::Fencing { head, plan },
                };
                step(Action::PrunerPlans(at), pruner, &unchanged);
            }
            Pruner::Fencing { head, plan } => {
                let taken = state.chain.known().get(head as usize).copied();
                let entry = Entry::Prune { by: at as u8, named: plan };
                match taken {
                    None if state.chain.len < self.entries => {
                        step(Action::PrunerApplies(at), state.pruners[at], &|after| after.chain.push(entry));
                    }
                    None => {}
                    Some(taken) => {
                        let head = self.head(state);
                        let pruner = match self.bug {
                            _ if taken == entry => Pruner::Deleting { left: plan },
                            Bug::PrunerRenumbers => Pruner::Fencing { head, plan },
                            _ => Pruner::Folded { head },
                        };
                        step(Action::PrunerAnswer(at), pruner, &unchanged);
                    }
                }
                if self.bug == Bug::DeletesBeforeEntry && plan & state.stored != 0 {
                    let object = first(plan & state.stored);
                    step(Action::DeletesEarly(at), state.pruners[at], &|after| after.stored &= !object);
                }
            }
            Pruner::Deleting { left } => {
                let object = first(left);
                let left = left & !object;
                let pruner = if left == 0 { Pruner::Done } else { Pruner::Deleting { left } };
                step(Action::Deletes(at), pruner, &|after| after.stored &= !object);
            }
            _ => {}
        }
    }

    fn reader_steps(&self, state: &State, next: &mut Vec<(Action, State)>) {
        match state.reader {
            Reader::Idle => {
                let head = state.chain.len;
                for (_, _, left) in state.chain.live(state.chain.fold(head).live) {
                    next.push((Action::ReaderStarts, State { reader: Reader::Reading { head, left }, ..*state }));
                }
            }
            Reader::Reading { head, left } => {
                let object = first(left);
                let later = state.chain.fold(state.chain.len).removed & !state.chain.fold(head).removed;
                let reader = match (left & !object, state.stored & object != 0) {
                    (0, true) => Reader::Done,
                    (left, true) => Reader::Reading { head, left },
                    (_, false) if later & object != 0 => Reader::Done,
                    (_, false) => Reader::Misled,
                };
                next.push((Action::Reads, State { reader, ..*state }));
            }
            Reader::Done | Reader::Misled => {}
        }
    }
}

/// The packs that `writer` may add ahead of its snapshot.
fn ahead(writer: &Writer) -> Objects {
    (writer.own | writer.adopted) & !packs(Content::Manifest)
}
