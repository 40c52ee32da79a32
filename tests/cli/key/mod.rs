//! `sidekeep key`

mod add;
mod check;
mod list;
mod passphrase;
mod revoke;
mod rotate;
mod runbooks;
mod support;
