//! How a message identifies a row: by its key, shortened. No other value is shown.

use crate::format::cell::Cell;

/// Number of characters of a text key that are shown.
const KEY_CHARS_MAX: usize = 60;

/// Names the row with these values in its key columns.
pub(crate) fn row_name<'a>(key: impl Iterator<Item = (&'a str, Option<&'a Cell<'a>>)>) -> String {
    let values: Vec<String> = key.map(|(name, cell)| format!("{name} = {}", shown_value(cell))).collect();
    match values.is_empty() {
        true => "a row without a key".to_owned(),
        false => format!("the row with {}", values.join(", ")),
    }
}

fn shown_value(cell: Option<&Cell<'_>>) -> String {
    match cell {
        Some(Cell::Integer(value)) => value.to_string(),
        Some(Cell::Text(text)) => format!("{:?}", text.chars().take(KEY_CHARS_MAX).collect::<String>()),
        Some(Cell::Uuid(bytes)) => uuid_text(bytes),
        Some(Cell::Bool(value)) => value.to_string(),
        _ => "…".to_owned(),
    }
}

/// A UUID as hexadecimal digits with dashes.
pub(crate) fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex = data_encoding::HEXLOWER.encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::row_name;
    use crate::format::cell::Cell;

    #[test]
    fn a_row_is_named_by_its_shortened_key() {
        let long = "ä".repeat(100);
        let cells = [Cell::Integer(-7), Cell::Text(&long), Cell::Uuid([0x12; 16]), Cell::Bool(true), Cell::Null];
        let named = row_name(["a", "b", "c", "d", "e", "f"].into_iter().zip(cells.iter().map(Some).chain([None])));
        let expected = format!(
            "the row with a = -7, b = \"{}\", c = 12121212-1212-1212-1212-121212121212, d = true, e = …, f = …",
            "ä".repeat(60)
        );
        assert_eq!(named, expected);
        assert_eq!(row_name(std::iter::empty()), "a row without a key");
    }
}
