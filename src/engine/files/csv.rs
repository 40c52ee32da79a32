//! CSV (RFC 4180): a header line, then a record per row (`docs/export.md`). A backslash marks values that would
//! otherwise be ambiguous: NULL versus the empty text, or the text 5 versus the number 5.

use std::io::Write;
use std::path::Path;

use crate::base::env::SharedEnv;
use crate::base::finding::Finding;
use crate::engine::contract::{EngineError, RestoreContent, Target, TargetTable};
use crate::engine::files::directory::TableDirectory;
use crate::engine::files::json::push_string;
use crate::engine::files::value_text::{Detail, ValueText};
use crate::format::cell::Cell;

/// A target that writes a directory of `.csv` files.
pub struct CsvTarget {
    directory: TableDirectory,
    columns: usize,
    field: Vec<u8>,
    line: Vec<u8>,
}

impl CsvTarget {
    /// Creates a target at `path`, which must not exist or must be an empty directory.
    /// Fails if there is anything else, or the path cannot be read.
    pub fn create(path: &Path, env: &SharedEnv) -> Result<Self, EngineError> {
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

/// Whether `text` is a number in JSON's grammar.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => is_mantissa(mantissa) && is_exponent(exponent),
        None => is_mantissa(unsigned),
    }
}

fn is_mantissa(text: &str) -> bool {
    match text.split_once('.') {
        Some((whole, fraction)) => is_whole(whole) && is_digits(fraction),
        None => is_whole(text),
    }
}

fn is_whole(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_exponent(text: &str) -> bool {
    is_digits(text.strip_prefix(['+', '-']).unwrap_or(text))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn push_field(field: &mut Vec<u8>, value: &ValueText<'_>) {
    match value {
        ValueText::Null => field.extend_from_slice(b"\\N"),
        ValueText::Absent => field.extend_from_slice(b"\\A"),
        ValueText::Bool(value) => field.extend_from_slice(if *value { b"\\true" } else { b"\\false" }),
        ValueText::Number(number) => field.extend_from_slice(number.as_bytes()),
        ValueText::Text(text) => push_text(field, text),
        ValueText::Marked { kind, text, detail } => push_marked(field, kind, text, detail.as_ref()),
    }
}

fn push_text(field: &mut Vec<u8>, text: &str) {
    // Many CSV readers stop at a zero byte.
    if text.contains('\0') {
        field.extend_from_slice(b"\\json:");
        push_string(field, text);
        return;
    }
    if text.starts_with('\\') || is_number(text) {
        field.extend_from_slice(b"\\text:");
    }
    field.extend_from_slice(text.as_bytes());
}

fn push_marked(field: &mut Vec<u8>, kind: &str, text: &str, detail: Option<&Detail>) {
    match detail {
        Some(Detail::Encoding(name)) => write!(field, "\\{kind}:{name}:{text}"),
        Some(Detail::West(seconds)) => write!(field, "\\{kind}:{seconds}:{text}"),
        None => write!(field, "\\{kind}:{text}"),
    }
    .expect("writing to a vector cannot fail");
}

/// Appends a field, in quotes if it needs them. The empty text always does, so that no line is empty.
fn push_quoted(line: &mut Vec<u8>, field: &[u8]) {
    if !needs_quotes(field) {
        line.extend_from_slice(field);
        return;
    }
    line.push(b'"');
    push_with_doubled_quotes(line, field);
    line.push(b'"');
}

fn push_with_doubled_quotes(line: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        if *byte == b'"' {
            line.push(b'"');
        }
        line.push(*byte);
    }
}

fn needs_quotes(field: &[u8]) -> bool {
    let Some(first) = field.first() else { return true };
    let Some(last) = field.last() else { return true };
    let is_special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    *first <= b' ' || *last <= b' ' || field.iter().any(is_special)
}

impl CsvTarget {
    fn write_line(&mut self, cells: &[Cell<'_>]) -> Result<(), &'static str> {
        if cells.len() != self.columns {
            return Err("its number of cells differs from the table's number of columns");
        }
        self.line.clear();
        for cell in cells {
            self.push_cell(cell)?;
        }
        self.line.pop();
        self.line.push(b'\n');
        Ok(())
    }

    /// Appends a cell and a comma.
    fn push_cell(&mut self, cell: &Cell<'_>) -> Result<(), &'static str> {
        self.field.clear();
        push_field(&mut self.field, &ValueText::of(cell)?);
        push_quoted(&mut self.line, &self.field);
        self.line.push(b',');
        Ok(())
    }
}

impl Target for CsvTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        self.directory.begin(content, header)
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.directory.table(table)?;
        self.columns = self.directory.column_names()?.count();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        match self.write_line(cells) {
            Ok(()) => self.directory.line(&self.line),
            Err(why) => self.directory.refuse_row(why),
        }
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.directory.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn only_numbers_in_json_grammar_are_numbers() {
        for number in ["0", "-0", "12", "-1.50", "1e5", "0.1E-7", "99999999999999999999"] {
            assert!(is_number(number), "{number}");
        }
        for text in ["", "-", "01", "+1", "1.", ".5", "1e", "1e+", "1 ", "0x1", "--1", "1.5.5", "NaN", "１"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
