//! Features (`docs/format.md` section 14): names under which admins announce content that the base list of the format
//! does not have.

/// Longest name of a feature, and of a kind within it.
const NAME_BYTES_MAX: usize = 32;

/// Whether this can be the name of a feature.
pub(super) fn is_feature_name(text: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_valid)
}

/// A signed statement, or a part of one, that the base list does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unlisted {
    /// What it is, for messages.
    pub what: String,
    /// The features that it belongs to. `None` belongs to none, so that nobody can announce it.
    features: Option<Vec<String>>,
}

impl Unlisted {
    /// A kind of `what` that the base list does not have.
    pub(super) fn of_kind(what: &str, kind: &str) -> Self {
        let feature = kind.split_once(':').filter(|(feature, rest)| is_feature_name(feature) && is_feature_name(rest));
        let features = feature.map(|(feature, _)| vec![feature.to_owned()]);
        Self { what: format!("{what} {kind:?}"), features }
    }

    /// A statement in other formats: the number that it gives and the version of its type.
    pub(super) fn of_formats(formats: &[u32]) -> Self {
        let features: Vec<String> = formats.iter().map(|format| format!("format-{format}")).collect();
        let what = formats.iter().map(|format| format!("format {format}")).collect::<Vec<_>>().join(" and ");
        Self { what, features: Some(features) }
    }

    /// Whether it counts. `is_announced` tells whether a feature is announced.
    #[must_use]
    pub fn counts(&self, mut is_announced: impl FnMut(&str) -> bool) -> bool {
        let features = self.features.as_ref();
        features.is_some_and(|features| features.iter().all(|feature| is_announced(feature)))
    }
}

#[cfg(test)]
mod tests {
    use super::Unlisted;

    #[test]
    fn a_kind_belongs_to_the_feature_in_its_name() {
        let counts = |kind: &str| Unlisted::of_kind("entry kind", kind).counts(|feature| feature == "journal");
        assert!(counts("journal:record"));
        for kind in ["journal", "journal:", ":journal", "journal:a:b", "journals:record", "Journal:record", "journal:ü"]
        {
            assert!(!counts(kind), "{kind}");
        }
        assert!(!Unlisted::of_kind("entry kind", &format!("{}:a", "j".repeat(33))).counts(|_| true));
        assert!(Unlisted::of_formats(&[2]).counts(|feature| feature == "format-2"));
        assert!(!Unlisted::of_formats(&[2, 3]).counts(|feature| feature == "format-2"));
    }
}
