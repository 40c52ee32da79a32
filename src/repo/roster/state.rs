//! Epochs and sources.

use std::collections::BTreeMap;

use crate::base::id::{Digest, Epoch, GroupId, KeyId};
use crate::format::entry::Numbered;
use crate::format::roster::Thresholds;

/// An epoch.
#[derive(Clone, Debug)]
pub struct EpochState {
    pub sealing: [u8; 1216],
    /// In the order in which the roster names them.
    pub grants: BTreeMap<KeyId, Vec<Digest>>,
    pub closed: bool,
}

/// A source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// The epoch whose structure key sealed the label.
    pub epoch: Epoch,
    pub label: Vec<u8>,
    /// Sources with the same group are parts of one service.
    pub group: Option<GroupId>,
    /// The guard's thresholds, oldest first. The last one of a table counts, or of the source.
    pub thresholds: Vec<Thresholds>,
    /// The entry that added it.
    pub added: Numbered,
}
