//! Announced features (`docs/format.md` section 14).

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::finding::{Finding, FindingKind};
use crate::format::feature::Unlisted;

/// The features that this program knows.
const KNOWN: [&str; 0] = [];

/// When each feature was announced: from one roster entry until another.
#[derive(Clone, Debug, Default)]
pub(super) struct Features(BTreeMap<String, Vec<Range<u64>>>);

impl Features {
    /// Announces a feature, from entry `position` on.
    pub(super) fn announce(&mut self, name: String, position: u64) {
        let ranges = self.0.entry(name).or_default();
        if ranges.last().is_none_or(|last| last.end <= position) {
            ranges.push(position..u64::MAX);
        }
    }

    /// Withdraws a feature, from entry `position` on.
    pub(super) fn withdraw(&mut self, name: &str, position: u64) {
        if let Some(last) = self.0.get_mut(name).and_then(|ranges| ranges.last_mut()) {
            last.end = last.end.min(position);
        }
    }

    /// Whether everything that `unlisted` needs is announced as of this entry.
    pub(super) fn announce_all_of(&self, unlisted: &Unlisted, position: u64) -> bool {
        unlisted.counts(|name| self.is_announced(name, position))
    }

    fn is_announced(&self, name: &str, position: u64) -> bool {
        self.0.get(name).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&position)))
    }

    /// The features that are announced as of this entry and that this program does not know.
    pub(super) fn unknown(&self, position: u64) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(move |name| !KNOWN.contains(name) && self.is_announced(name, position))
    }
}

/// What a command that reads says about a feature that it does not know.
pub(super) fn feature_finding(name: &str) -> Finding {
    let detail = "an admin announced it, and this version does not know it: what is shown may lack something";
    Finding::new(FindingKind::Unsupported, format!("feature {name}"), detail)
}
