//! The names of sources (`docs/format.md` section 11), as far as a key can open their labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{Epoch, SourceId};
use crate::repo::roster::NameChange;

/// Which source each name means.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceNames {
    /// The names that mean a source.
    holders: HashMap<String, SourceId>,
    /// The last name that each source had.
    last: BTreeMap<SourceId, String>,
    /// Every name that ever meant a source.
    used: BTreeSet<String>,
    /// Names that a source did not get, because they mean or meant another one.
    refused: Vec<(SourceId, String)>,
}

/// Why a name cannot be given to a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameObstacle {
    /// It has the form of an id.
    IsId,
    /// It means this source.
    Taken(SourceId),
    /// It meant another source before, and only an admin gives it again.
    Used,
}

/// Whether a text has the form of an id of a source. Such a text is never the name of one.
fn is_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl SourceNames {
    /// The names after these changes. `open` opens a label, if the key can.
    pub(super) fn after(changes: &[NameChange], open: impl Fn(SourceId, Epoch, &[u8]) -> Option<String>) -> Self {
        let mut names = Self::default();
        for change in changes {
            match change {
                NameChange::Retired(source) => names.free(*source),
                NameChange::Given { source, epoch, label, is_by_admin } => {
                    names.free(*source);
                    if let Some(name) = open(*source, *epoch, label) {
                        names.give(*source, name, *is_by_admin);
                    }
                }
            }
        }
        names
    }

    fn free(&mut self, source: SourceId) {
        let Some(name) = self.last.get(&source) else { return };
        if self.holders.get(name) == Some(&source) {
            self.holders.remove(name);
        }
    }

    fn give(&mut self, source: SourceId, name: String, is_by_admin: bool) {
        match self.obstacle(&name, is_by_admin) {
            None => {
                self.used.insert(name.clone());
                self.last.insert(source, name.clone());
                self.holders.insert(name, source);
            }
            Some(_) => self.refused.push((source, name)),
        }
    }

    /// Why the name cannot be given to a source that has none. `None` if it can.
    #[must_use]
    pub fn obstacle(&self, name: &str, is_by_admin: bool) -> Option<NameObstacle> {
        if is_id(name) {
            return Some(NameObstacle::IsId);
        }
        if let Some(holder) = self.holders.get(name) {
            return Some(NameObstacle::Taken(*holder));
        }
        (self.used.contains(name) && !is_by_admin).then_some(NameObstacle::Used)
    }

    /// The source that a name means.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceId> {
        self.holders.get(name).copied()
    }

    /// The name that means a source.
    #[must_use]
    pub fn name(&self, source: SourceId) -> Option<&str> {
        let last = self.last_name(source)?;
        (self.source(last) == Some(source)).then_some(last)
    }

    /// The last name that meant a source, even if it is retired.
    #[must_use]
    pub fn last_name(&self, source: SourceId) -> Option<&str> {
        self.last.get(&source).map(String::as_str)
    }

    /// Findings about sources whose name means another source.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        let unnamed = self.refused.iter().filter(|(source, _)| self.name(*source).is_none());
        unnamed.map(|(source, name)| self.finding(*source, name))
    }

    fn finding(&self, source: SourceId, name: &str) -> Finding {
        let detail = match self.obstacle(name, false) {
            Some(NameObstacle::Taken(holder)) => format!("it was given the name {name:?}, which means source {holder}"),
            Some(NameObstacle::Used) => format!("it was given the name {name:?}, which another source had before"),
            _ => format!("it was given the name {name:?}, which has the form of an id"),
        };
        Finding::new(FindingKind::AmbiguousName, format!("source {source}"), detail).of_source(source)
    }
}

#[cfg(test)]
mod tests {
    use super::{NameObstacle, SourceNames};
    use crate::base::id::SourceId;

    #[test]
    fn the_first_source_of_a_name_keeps_it_until_an_admin_changes_that() {
        let source = |n| SourceId::new([n; 16]);
        let mut names = SourceNames::default();
        names.give(source(9), "main".to_owned(), false);
        names.give(source(1), "main".to_owned(), true);
        assert_eq!((names.source("main"), names.name(source(1)), names.findings().count()), (Some(source(9)), None, 1));
        names.free(source(9));
        assert_eq!((names.source("main"), names.last_name(source(9))), (None, Some("main")));
        assert_eq!(names.obstacle("main", false), Some(NameObstacle::Used));
        names.give(source(2), "main".to_owned(), false);
        names.give(source(3), "main".to_owned(), true);
        assert_eq!((names.source("main"), names.name(source(3))), (Some(source(3)), Some("main")));
        for id in [source(9).to_string(), source(0xab).to_string().to_uppercase()] {
            assert_eq!(names.obstacle(&id, true), Some(NameObstacle::IsId));
        }
        assert!(names.obstacle("cafe", false).is_none());
    }
}
