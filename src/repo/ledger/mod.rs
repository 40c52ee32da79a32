//! The ledger of a source: judging its entries one by one, and folding the entries that count.

mod changes;
mod fold;
mod inventory;
mod judge;
mod positions;
mod record;
mod report;
mod revoked;
mod standing;
mod trust;

pub use fold::Ledger;
pub use inventory::InventoryPack;
pub use record::{Decision, Holds, PacksInAdvance, SnapshotRecord};
