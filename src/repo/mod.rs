//! A repository: what its objects mean together.

pub mod error;
pub mod index;
pub mod io;
pub mod ledger;
pub mod open;
pub mod packer;
pub mod roster;
pub mod write;
