//! Lists of names in messages.

/// Names shown before the rest is only counted.
const SHOWN_MAX: usize = 8;

/// The first names, and how many more there are.
pub(super) fn abbreviated(names: &[String]) -> String {
    let shown = &names[..names.len().min(SHOWN_MAX)];
    let list = shown.join(", ");
    match names.len() - shown.len() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
