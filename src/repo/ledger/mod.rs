//! The ledger of a source: its entries, judged one by one, and what those that count come to.

mod fold;
mod inventory;
mod judge;
mod record;

pub use fold::Ledger;
pub use inventory::InventoryPack;
pub use record::{PacksAhead, SnapshotRecord};
