//! One command per file: its arguments and `run`. The doc comments of the arguments are the help text.

pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod man;
pub(crate) mod owners;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod snapshots;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod verify;
