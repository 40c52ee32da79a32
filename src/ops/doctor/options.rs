//! What a doctor is given to look at, each thing with the way to open it.

use std::error::Error;
use std::path::PathBuf;

use crate::base::env::SharedEnv;
use crate::base::progress::SharedProgress;
use crate::crypto::role::Identity;
use crate::engine::contract::Source;
use crate::engine::postgres::backup::preflight::ServerCheck;
use crate::repo::io::Objects;

/// Opens something that may not open.
pub type Opener<'a, T> = Box<dyn FnOnce() -> Result<T, Box<dyn Error + Send + Sync>> + 'a>;

/// What to look at; what is not named is not looked at.
pub struct DoctorOptions<'a> {
    pub config: Vec<ConfigFact>,
    pub store: Option<Opener<'a, Objects>>,
    pub key: Option<Opener<'a, Identity>>,
    pub sources: Vec<LiveSource<'a>>,
    pub spill_dir: PathBuf,
    /// Free bytes that a backup should find there.
    pub spill_bytes_min: u64,
    pub env: SharedEnv,
    pub progress: SharedProgress,
}

/// A live source.
pub struct LiveSource<'a> {
    pub name: String,
    /// Looks at its server, if it has one.
    pub examine: Option<Opener<'a, Vec<ServerCheck>>>,
    pub open: Opener<'a, Box<dyn Source>>,
}

/// Something of the configuration, as whoever read it found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFact {
    pub name: String,
    /// What it says, or what is wrong with it.
    pub detail: Result<String, String>,
}
