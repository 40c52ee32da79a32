//! Connection parameters by libpq's names. A value may be a password.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Connection parameters that have not been used yet.
#[derive(Default)]
pub(crate) struct ConnectionParameters(BTreeMap<String, Zeroizing<String>>);

impl ConnectionParameters {
    /// Sets a parameter, replacing an earlier value.
    pub(crate) fn set(&mut self, key: &str, value: Zeroizing<String>) {
        self.0.insert(key.to_owned(), value);
    }

    /// Sets a parameter unless it is already set.
    pub(crate) fn add(&mut self, key: &str, value: Zeroizing<String>) {
        self.0.entry(key.to_owned()).or_insert(value);
    }

    /// Removes a parameter, even if it is empty.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Zeroizing<String>> {
        self.0.remove(key)
    }

    /// Removes a parameter. None if it is empty.
    pub(crate) fn take(&mut self, key: &str) -> Option<Zeroizing<String>> {
        self.remove(key).filter(|value| !value.is_empty())
    }

    /// Removes a parameter that is not secret.
    pub(crate) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|value| value.to_string())
    }

    /// The parameters that were not taken, by name.
    pub(crate) fn into_values(self) -> impl Iterator<Item = (String, Zeroizing<String>)> {
        self.0.into_iter()
    }
}
