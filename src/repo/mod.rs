//! A repository: what its objects mean together.

pub mod index;
pub mod io;
pub mod packer;
pub mod write;
