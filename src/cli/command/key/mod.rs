//! `sidekeep key`

mod add;
mod check;
mod key;
mod list;
mod new_key_file;
mod passphrase;
mod revoke;
mod rotate;

pub(crate) use key::{KeyCommandArgs, run};
