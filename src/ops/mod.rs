//! One operation per file or folder: options in, report out. Never prints.

pub mod access;
pub mod backup;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod init;
pub mod keys;
pub mod owners;
pub mod placement;
pub mod readable;
pub mod restore;
pub mod select;
pub mod show;
pub mod snapshots;
pub mod sources;
pub mod status;
pub mod verify;
