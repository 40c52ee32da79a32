//! Finds the key that a text names.

use crate::base::id::KeyId;
use crate::ops::error::OpError;
use crate::repo::roster::Roster;

/// The fewest digits of an id that name a key.
const PREFIX_CHARS_MIN: usize = 4;

/// The key with this id, label or start of an id. An id takes precedence over a label, and a label over the start of an id.
/// Fails if no key or several are meant.
pub(super) fn find_key(roster: &Roster, text: &str) -> Result<KeyId, OpError> {
    if let Some(key) = text.parse().ok().filter(|key| roster.keys.contains_key(key)) {
        return Ok(key);
    }
    let labelled: Vec<KeyId> = labelled(roster, text).collect();
    if !labelled.is_empty() {
        return only(&labelled, &format!("have the label {text:?}"));
    }
    let start = text.to_ascii_lowercase();
    let is_long_enough = start.len() >= PREFIX_CHARS_MIN;
    let ids = roster.keys.keys().filter(|key| is_long_enough && key.to_string().starts_with(&start)).copied();
    let ids: Vec<KeyId> = ids.collect();
    if ids.is_empty() {
        return Err(OpError::Key(format!("there is no key {text:?} in this repository")));
    }
    only(&ids, &format!("have an id that begins with {start}"))
}

/// The keys with this label.
fn labelled<'a>(roster: &'a Roster, label: &'a str) -> impl Iterator<Item = KeyId> + 'a {
    roster.keys.iter().filter(move |(_, state)| state.label == label).map(|(key, _)| *key)
}

/// Fails if a key has this label, because it must mean one key.
pub(super) fn check_label(roster: &Roster, label: &str) -> Result<(), OpError> {
    if label.parse::<KeyId>().is_ok() {
        return Err(OpError::Key(format!("the label {label:?} has the form of an id")));
    }
    match labelled(roster, label).next() {
        None => Ok(()),
        Some(key) => Err(OpError::Key(format!("key {key} has the label {label:?} already"))),
    }
}

fn only(keys: &[KeyId], what: &str) -> Result<KeyId, OpError> {
    match keys {
        [key] => Ok(*key),
        several => {
            let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(OpError::Key(format!("{} keys {what}: name one by its id: {}", several.len(), ids.join(", "))))
        }
    }
}
