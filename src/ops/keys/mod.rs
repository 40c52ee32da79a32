//! The keys of a repository: listing, adding, revoking and rotating them.

pub mod add;
pub mod check;
mod find;
pub mod list;
pub mod revoke;
pub mod rotate;
