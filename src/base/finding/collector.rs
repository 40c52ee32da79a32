//! Collects findings. Repeated findings of one kind about one object become one finding with a count.

use std::collections::HashMap;
use std::mem::Discriminant;

use crate::base::finding::finding::{Affected, Finding};
use crate::base::finding::kind::{FindingKind, Severity};
use crate::base::id::Digest;

/// Informational findings of one kind that keep their own object. Later ones are counted together.
const INFORMATION_MAX: usize = 100;

/// Collects findings. Repeated findings of one kind about one object become one finding with a count.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    positions: HashMap<(Discriminant<FindingKind>, String), usize>,
    information: HashMap<Discriminant<FindingKind>, usize>,
    /// The position of each finding in `list`, once per occurrence, so that a walk can tell which findings it met.
    met: Vec<usize>,
}

impl Findings {
    /// Adds a finding and returns its position.
    pub fn add(&mut self, mut finding: Finding) -> usize {
        if finding.severity == Severity::Information {
            self.limit_information(&mut finding);
        }
        let key = (std::mem::discriminant(&finding.kind), finding.object.clone());
        let at = *self.positions.entry(key).or_insert(self.list.len());
        self.met.push(at);
        match self.list.get_mut(at) {
            Some(known) => known.merge(finding),
            None => self.list.push(finding),
        }
        at
    }

    /// Gives informational findings beyond the maximum of their kind one common object.
    fn limit_information(&mut self, finding: &mut Finding) {
        let kind = std::mem::discriminant(&finding.kind);
        if self.positions.contains_key(&(kind, finding.object.clone())) {
            return;
        }
        let seen = self.information.entry(kind).or_default();
        *seen += 1;
        if *seen > INFORMATION_MAX {
            "further objects".clone_into(&mut finding.object);
        }
    }

    /// Records that a known finding was met again on the way to something else that it affects.
    pub fn met_again(&mut self, at: usize, affected: Affected<'_>) {
        self.met.push(at);
        self.list[at].affect(affected);
    }

    /// How many findings were met so far. Pass it to [`Findings::met_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.met.len()
    }

    /// The positions of the findings met since a mark, each once.
    #[must_use]
    pub fn met_since(&self, mark: usize) -> Vec<usize> {
        let mut met = self.met[mark..].to_vec();
        met.sort_unstable();
        met.dedup();
        met
    }

    /// Whether a finding of damage affects this snapshot.
    #[must_use]
    pub fn has_damage_of(&self, snapshot: &Digest) -> bool {
        self.list.iter().any(|found| found.severity == Severity::Damage && found.snapshots.contains(snapshot))
    }

    /// All findings, worst first.
    #[must_use]
    pub fn finish(mut self) -> Vec<Finding> {
        self.list.sort_by(|a, b| {
            (a.severity, a.source, &a.object, &a.kind).cmp(&(b.severity, b.source, &b.object, &b.kind))
        });
        self.list
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Affected, Finding, FindingKind, Findings, Severity};
    use crate::base::id::Digest;

    #[test]
    fn findings_of_one_kind_and_object_are_merged() {
        let mut findings = Findings::default();
        findings.add(Finding::new(FindingKind::Orphan, "b", "nothing refers to it"));
        let mark = findings.mark();
        let affected = Affected { snapshot: Some(Digest::new([1; 32])), table: Some("t") };
        let first = findings.add(Finding::new(FindingKind::LostChunk, "a", "leaf 1").affecting(affected));
        assert_eq!(findings.add(Finding::new(FindingKind::LostChunk, "a", "leaf 2")), first);
        assert_eq!(findings.met_since(mark), [first]);
        assert!(findings.has_damage_of(&Digest::new([1; 32])) && !findings.has_damage_of(&Digest::new([2; 32])));
        let list = findings.finish();
        assert_eq!((list.len(), list[0].count, list[0].detail.as_str()), (2, 2, "leaf 1"));
        assert_eq!((list[0].severity, list[1].severity), (Severity::Damage, Severity::Information));
    }

    #[test]
    fn the_json_form_has_the_kind_and_its_facts() {
        let kind = FindingKind::WrongSize { expected_bytes: 7, found_bytes: 3 };
        let found = serde_json::to_value(Finding::new(kind, "a", "short").with_remedy("put it back")).expect("JSON");
        let expected = json!({
            "severity": "damage",
            "kind": "wrong-size",
            "facts": { "expected_bytes": 7, "found_bytes": 3 },
            "object": "a",
            "snapshots": [],
            "tables": [],
            "count": 1,
            "detail": "short",
            "remedy": "put it back",
        });
        assert_eq!(found, expected);
        let found = serde_json::to_value(Finding::note("a", "b")).expect("JSON");
        assert_eq!((&found["kind"], found.get("facts"), found.get("remedy")), (&json!("note"), None, None));
    }
}
