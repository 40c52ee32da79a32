//! The commit protocol of one source as a model small enough to be enumerated: every interleaving of
//! writers, pruners and a reader, as `repo::{ledger, known_chunks, commit}` act.
//!
//! *The machine.* A writer takes an image, folds the ledger up to a head and decides per chunk: count on
//! a pack of the inventory, adopt one that an announcement of its own key lists, or upload its own; then
//! its manifest; then it tries to create the entry after that head, and maybe one before that adds its
//! packs ahead, after which it folds and validates again. A pruner folds up to a head, lists
//! the store, plans all that no live snapshot needs, orphans too, tries to create a prune entry after
//! that head, and only then deletes what it named. Whoever finds the number taken folds again: a writer
//! validates all that it counted on, a pruner plans anew. Entries that do not count are passed over.
//!
//! *Why no committed snapshot can lose a chunk.* Let a snapshot entry stand at n and need the object p.
//! Its writer held p against the fold of everything before n, for create-if-absent lets nobody in between.
//! So no entry before n named p: if shared, p was in the inventory, which what is named has left; if
//! adopted or its own, the writer looked that no entry had removed it. From n on p is in the inventory.
//! An entry m > n that names p was planned against the fold of everything before m, which holds n: it
//! names p only if that snapshot was forgotten before m. Nothing is deleted that no entry names: p lives
//! as long as the snapshot does. Neither clocks nor grace appear in this; they merely save uploads.
//!
//! *Crashes* are processes that never move again, and every state stands for that too. A request without
//! an answer is carried out at any later moment or never; an upload may even be carried out once more
//! after the object was deleted. Left out: more than three runs, two pruners and one reader at a time;
//! contents of frames (ids are computed again after every open); revoked keys (which only take packs
//! away from those that count); other sources (nothing is shared).

mod chain;
mod enumeration;
mod process;
mod property;
mod world;
