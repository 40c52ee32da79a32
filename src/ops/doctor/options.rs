//! What the doctor checks, each part with a function that opens it.

use std::error::Error;
use std::path::PathBuf;

use crate::base::env::SharedEnv;
use crate::base::progress::SharedProgress;
use crate::crypto::role::Identity;
use crate::engine::contract::Source;
use crate::engine::postgres::backup::preflight::ServerCheck;
use crate::repo::objects::Objects;

/// Opens something. It may fail.
pub type Opener<'a, T> = Box<dyn FnOnce() -> Result<T, Box<dyn Error + Send + Sync>> + 'a>;

/// What to check. Parts that are not given are not checked.
pub struct DoctorOptions<'a> {
    pub config: Vec<ConfigFact>,
    pub store: Option<Opener<'a, Objects>>,
    pub key: Option<Opener<'a, Identity>>,
    pub sources: Vec<LiveSource<'a>>,
    pub spill_dir: PathBuf,
    /// Free bytes that a backup should have in `spill_dir`.
    pub spill_bytes_min: u64,
    pub env: SharedEnv,
    pub progress: SharedProgress,
}

/// A live source.
pub struct LiveSource<'a> {
    pub name: String,
    /// Checks its server, if it has one.
    pub examine: Option<Opener<'a, Vec<ServerCheck>>>,
    pub open: Opener<'a, Box<dyn Source>>,
}

/// A part of the configuration, as its reader found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFact {
    pub name: String,
    /// What it contains, or what is wrong with it.
    pub detail: Result<String, String>,
}
