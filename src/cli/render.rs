//! Formats numbers, sizes, durations and tables for people. Returns text and prints nothing. Text from a database must
//! pass through [`printable`] before it reaches a terminal.

use std::borrow::Cow;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::time;
use crate::base::id::Digest;
use crate::base::time::Moment;

/// `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`. `noun` is singular and its plural adds an s.
pub(crate) fn plural(n: u64, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(n))
}

/// A moment in the system's time zone.
pub(crate) fn moment(moment: Moment) -> String {
    time::display(moment, &TimeZone::system())
}

/// The first 12 characters of a snapshot's id.
pub(crate) fn short(id: &Digest) -> String {
    id.to_string().chars().take(12).collect()
}

/// Bytes in decimal units: `512 B`, `8.2 kB`, `1.4 GB`.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A large count, abbreviated: `512`, `8.2 k`, `1.4 M`.
pub(crate) fn magnitude(n: u64) -> String {
    scaled(n, &["", "k", "M", "G", "T", "P", "E"]).trim_end().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(n: u64, units: &[&str]) -> String {
    if n < 1000 {
        return format!("{n} {}", units[0]);
    }
    let mut value = n as f64;
    let mut unit = 0;
    // A value that would be rounded to 1000 gets the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", units[unit])
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 days 3 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => two_units(&format!("{} min", seconds / 60), seconds % 60, "s"),
        3600..86_400 => two_units(&format!("{} h", seconds / 3600), seconds % 3600 / 60, "min"),
        86_400..172_800 => two_units("1 day", seconds % 86_400 / 3600, "h"),
        _ => two_units(&format!("{} days", seconds / 86_400), seconds % 86_400 / 3600, "h"),
    }
}

/// `large`, followed by `small` if it is not zero.
fn two_units(large: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => large.to_owned(),
        small => format!("{large} {small} {small_unit}"),
    }
}

/// The line `label: object: reason`.
pub(crate) fn labelled_object(label: &str, object: &str, reason: &str) -> String {
    format!("{label}: {}: {}\n", printable(object), printable(reason))
}

/// A count for a table. Zero is blank.
pub(crate) fn count_or_blank(n: u64) -> String {
    if n == 0 { String::new() } else { count(n) }
}

/// `text` with control characters escaped, so that a name in a database cannot control the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(controls_terminal) { Cow::Owned(escaped(text)) } else { Cow::Borrowed(text) }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if controls_terminal(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Whether `c` is a control character, or a mark that reorders the text around it.
fn controls_terminal(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

/// Alignment of the cells of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with headings. A column is as wide as its widest cell.
pub(crate) struct TextTable {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table without rows, with these headings.
    pub(crate) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with one cell for each heading.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heads.len(), "a row has a cell for every heading");
        self.rows.push(cells.iter().map(|cell| printable(cell).into_owned()).collect());
    }

    /// Whether the table has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each ended by a line feed. Columns that are empty in every row are left out.
    pub(crate) fn render(&self) -> String {
        let columns = self.used_columns();
        let mut out = render_line(&self.head_cells(), &columns);
        for row in &self.rows {
            out += &render_line(row, &columns);
        }
        out
    }

    fn head_cells(&self) -> Vec<String> {
        self.heads.iter().map(|(head, _)| (*head).to_owned()).collect()
    }

    fn used_columns(&self) -> Vec<TextColumn> {
        let columns = self.heads.iter().enumerate();
        columns.filter_map(|(at, (head, align))| self.used_column(at, head, *align)).collect()
    }

    /// The column, unless all of its cells are empty.
    fn used_column(&self, at: usize, head: &str, align: Align) -> Option<TextColumn> {
        let widest = self.rows.iter().map(|row| row[at].chars().count()).max()?;
        let width = widest.max(head.chars().count());
        (widest > 0).then_some(TextColumn { at, align, width })
    }
}

/// A column that is shown.
struct TextColumn {
    /// Index of its cell in a row.
    at: usize,
    align: Align,
    width: usize,
}

fn render_line(cells: &[String], columns: &[TextColumn]) -> String {
    let padded: Vec<String> = columns.iter().map(|column| column.pad(&cells[column.at])).collect();
    padded.join("  ").trim_end().to_owned() + "\n"
}

impl TextColumn {
    fn pad(&self, cell: &str) -> String {
        let width = self.width;
        match self.align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Align, TextTable, bytes, count, duration, magnitude, plural, printable};

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1000, 9_949, 9_950, 999_499, 999_500].map(bytes),
            ["0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB"]
        );
        assert_eq!(bytes(u64::MAX), "18 EB");
        assert_eq!([7, 52_300].map(magnitude), ["7", "52 k"]);
        assert_eq!([plural(1, "row"), plural(0, "row")], ["1 row", "0 rows"]);
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let shown = [0, 450, 12_000, 200_000, 7_500_000, 360_000_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.0 s", "0.4 s", "12 s", "3 min 20 s", "2 h 5 min", "4 days 4 h"]);
    }

    #[test]
    fn control_characters_in_names_are_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}"), "a\\u{1b}[2Jb\\n\\u{202e}");
        assert_eq!(printable("Grüße"), "Grüße");
    }

    #[test]
    fn tables_are_aligned_and_drop_empty_columns() {
        let mut table = TextTable::new(&[("id", Align::Left), ("tags", Align::Left), ("rows", Align::Right)]);
        table.row(["a1".into(), String::new(), "7".into()]);
        table.row(["b".into(), String::new(), "12,345".into()]);
        assert_eq!(table.render(), "id    rows\na1       7\nb   12,345\n");
    }
}
