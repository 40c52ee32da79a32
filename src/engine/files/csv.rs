//! CSV (RFC 4180): a line of names, then a record per row (`docs/export.md`). What a field alone cannot
//! tell, such as NULL from the empty text or the text 5 from the number, is marked with a backslash.

use std::io::Write;
use std::path::Path;

use crate::base::env::SharedEnv;
use crate::engine::contract::{Refused, RestoreContent, SourceError, Target, TargetTable};
use crate::engine::files::directory::TableDirectory;
use crate::engine::files::json::push_string;
use crate::engine::files::words::{Detail, ValueText, words};
use crate::format::cell::Cell;

/// A directory of `.csv` files in the making.
pub struct CsvTarget {
    directory: TableDirectory,
    columns: usize,
    field: Vec<u8>,
    line: Vec<u8>,
}

impl CsvTarget {
    /// A target at `path`, where there must be nothing, or an empty directory.
    pub fn create(path: &Path, env: &SharedEnv) -> Result<Self, SourceError> {
        let directory = TableDirectory::create(path, env, "csv")?;
        Ok(Self { directory, columns: 0, field: Vec::new(), line: Vec::new() })
    }
}

fn header(table: &TargetTable) -> Vec<u8> {
    let mut line = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        push_quoted(&mut line, column.name.as_bytes());
    }
    line.push(b'\n');
    line
}

/// Whether `text` reads as a number of JSON's grammar.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || whole > 1 && rest.starts_with('0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}

fn push_field(field: &mut Vec<u8>, value: &ValueText<'_>) {
    match value {
        ValueText::Null => field.extend_from_slice(b"\\N"),
        ValueText::Absent => field.extend_from_slice(b"\\A"),
        ValueText::Bool(value) => field.extend_from_slice(if *value { b"\\true" } else { b"\\false" }),
        ValueText::Number(number) => field.extend_from_slice(number.as_bytes()),
        // Many readers of CSV stop at such a byte.
        ValueText::Text(text) if text.contains('\0') => {
            field.extend_from_slice(b"\\json:");
            push_string(field, text);
        }
        ValueText::Text(text) => {
            if text.starts_with('\\') || is_number(text) {
                field.extend_from_slice(b"\\text:");
            }
            field.extend_from_slice(text.as_bytes());
        }
        ValueText::Marked { kind, words, detail } => {
            match detail {
                Some(Detail::Encoding(name)) => write!(field, "\\{kind}:{name}:{words}"),
                Some(Detail::West(seconds)) => write!(field, "\\{kind}:{seconds}:{words}"),
                None => write!(field, "\\{kind}:{words}"),
            }
            .expect("a vector takes every write");
        }
    }
}

/// Appends a field, in quotes where it needs them; the empty text always, so that no line is empty.
fn push_quoted(line: &mut Vec<u8>, field: &[u8]) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    let blank_ended = field.first().is_none_or(|byte| *byte <= b' ') || field.last().is_none_or(|byte| *byte <= b' ');
    if !blank_ended && !field.iter().any(special) {
        line.extend_from_slice(field);
        return;
    }
    line.push(b'"');
    for byte in field {
        if *byte == b'"' {
            line.push(b'"');
        }
        line.push(*byte);
    }
    line.push(b'"');
}

impl CsvTarget {
    fn write_line(&mut self, cells: &[Cell<'_>]) -> Result<(), &'static str> {
        if cells.len() != self.columns {
            return Err("it has another number of cells than its table has columns");
        }
        self.line.clear();
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                self.line.push(b',');
            }
            self.field.clear();
            push_field(&mut self.field, &words(cell)?);
            push_quoted(&mut self.line, &self.field);
        }
        self.line.push(b'\n');
        Ok(())
    }
}

impl Target for CsvTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), SourceError> {
        self.directory.begin(content, header)
    }

    fn table(&mut self, table: usize) -> Result<(), SourceError> {
        self.directory.table(table)?;
        self.columns = self.directory.column_names()?.count();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SourceError> {
        match self.write_line(cells) {
            Ok(()) => self.directory.line(&self.line),
            Err(why) => self.directory.refuse_row(why),
        }
    }

    fn finish(&mut self) -> Result<Vec<Refused>, SourceError> {
        self.directory.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn numbers_of_the_grammar_and_nothing_else() {
        for number in ["0", "-0", "12", "-1.50", "1e5", "0.1E-7", "99999999999999999999"] {
            assert!(is_number(number), "{number}");
        }
        for text in ["", "-", "01", "+1", "1.", ".5", "1e", "1e+", "1 ", "0x1", "--1", "1.5.5", "NaN", "１"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
