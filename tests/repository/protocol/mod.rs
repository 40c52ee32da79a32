//! The commit protocol of one source as a model that is small enough to enumerate: every interleaving of writers,
//! pruners and a reader, acting like `repo::{ledger, known_chunks, commit}`.
//!
//! *The machine.* A writer takes an image, folds the ledger up to a head, and decides for each chunk: share a pack of
//! the inventory, adopt a pack that an announcement of its own key lists, or upload its own. Then it uploads its
//! manifest and tries to create the entry after that head. Before that, it may create an entry that adds its packs
//! ahead, after which it folds and validates again. A pruner folds up to a head, lists the store, and plans to remove
//! everything that no live snapshot needs, including orphans. It tries to create a prune entry after that head, and
//! only then deletes what the entry names. A process that finds the number taken folds again: a writer validates
//! everything that it relies on, and a pruner makes a new plan. Entries that do not count are skipped.
//!
//! *Why no committed snapshot can lose a chunk.* Suppose that a snapshot entry at n needs object p. Its writer checked
//! p against the fold of all entries before n, because create-if-absent lets no other entry in between. So no entry
//! before n removed p: if p was shared, it was in the inventory, which a removed pack has left; if it was adopted or
//! the writer's own, the writer checked that no entry had removed it. From n on, p is in the inventory. An entry m > n
//! that names p was planned against the fold of all entries before m, including n, so it names p only if the snapshot
//! was forgotten before m. Nothing is deleted unless an entry names it, so p exists as long as the snapshot does. The
//! proof depends neither on clocks nor on grace periods: they only save uploads.
//!
//! *Crashes* are processes that never take another step, and every state also covers that case. A request without an
//! answer is carried out at any later time or never. An upload may even be carried out again after the object was
//! deleted. The model leaves out: more than three runs, two pruners and one reader at a time; the contents of frames
//! (ids are recomputed whenever a frame is opened); revoked keys (which only exclude packs); other sources (nothing is
//! shared between sources).

mod chain;
mod enumeration;
mod process;
mod property;
mod world;
