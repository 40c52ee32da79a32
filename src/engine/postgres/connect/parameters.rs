//! The parameters of a connection by libpq's names of them; a value may be a password.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// ConnectionParameters that have not been used yet.
#[derive(Default)]
pub(crate) struct ConnectionParameters(BTreeMap<String, Zeroizing<String>>);

impl ConnectionParameters {
    /// Sets a parameter, whatever it was before.
    pub(crate) fn set(&mut self, key: &str, value: Zeroizing<String>) {
        self.0.insert(key.to_owned(), value);
    }

    /// Sets a parameter that is not there yet.
    pub(crate) fn add(&mut self, key: &str, value: Zeroizing<String>) {
        self.0.entry(key.to_owned()).or_insert(value);
    }

    /// Removes a parameter, even an empty one.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Zeroizing<String>> {
        self.0.remove(key)
    }

    /// Removes a parameter. An empty one says nothing.
    pub(crate) fn take(&mut self, key: &str) -> Option<Zeroizing<String>> {
        self.remove(key).filter(|value| !value.is_empty())
    }

    /// Removes a parameter that is not secret.
    pub(crate) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|value| value.to_string())
    }

    /// What was not taken, by name.
    pub(crate) fn into_values(self) -> impl Iterator<Item = (String, Zeroizing<String>)> {
        self.0.into_iter()
    }
}
