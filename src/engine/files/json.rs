//! JSON lines: an object per row, with a member per column (`docs/export.md`).

use std::io::Write;
use std::path::Path;

use crate::base::env::SharedEnv;
use crate::base::finding::Finding;
use crate::engine::contract::{EngineError, RestoreContent, Target};
use crate::engine::files::directory::TableDirectory;
use crate::engine::files::value_text::{Detail, ValueText};
use crate::format::cell::Cell;

/// A target that writes a directory of `.jsonl` files.
pub struct JsonLinesTarget {
    directory: TableDirectory,
    /// Each column's name as a JSON string, followed by a colon.
    members: Vec<Vec<u8>>,
    line: Vec<u8>,
}

impl JsonLinesTarget {
    /// Creates a target at `path`, which must not exist or must be an empty directory.
    /// Fails if there is anything else, or the path cannot be read.
    pub fn create(path: &Path, env: &SharedEnv) -> Result<Self, EngineError> {
        let directory = TableDirectory::create(path, env, "jsonl")?;
        Ok(Self { directory, members: Vec::new(), line: Vec::new() })
    }
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(line: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(line, text).expect("writing a string to a vector cannot fail");
}

/// Appends the value of a member as JSON.
fn push_value(line: &mut Vec<u8>, value: &ValueText<'_>) {
    match value {
        ValueText::Null | ValueText::Absent => line.extend_from_slice(b"null"),
        ValueText::Bool(value) => line.extend_from_slice(if *value { b"true" } else { b"false" }),
        ValueText::Number(number) => line.extend_from_slice(number.as_bytes()),
        ValueText::Text(text) => push_string(line, text),
        ValueText::Marked { kind, text, detail } => push_marked(line, kind, text, detail.as_ref()),
    }
}

fn push_marked(line: &mut Vec<u8>, kind: &str, text: &str, detail: Option<&Detail>) {
    line.extend_from_slice(b"{\"$");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\":");
    push_string(line, text);
    match detail {
        Some(Detail::Encoding(name)) => write!(line, ",\"encoding\":\"{name}\""),
        Some(Detail::West(seconds)) => write!(line, ",\"west\":{seconds}"),
        None => Ok(()),
    }
    .expect("writing to a vector cannot fail");
    line.push(b'}');
}

/// The start of a member: its name as a JSON string, then a colon.
fn member_start(name: &str) -> Vec<u8> {
    let mut start = Vec::new();
    push_string(&mut start, name);
    start.push(b':');
    start
}

/// Writes one row as a line.
fn write_line(line: &mut Vec<u8>, members: &[Vec<u8>], cells: &[Cell<'_>]) -> Result<(), &'static str> {
    if cells.len() != members.len() {
        return Err("its number of cells differs from the table's number of columns");
    }
    line.clear();
    line.push(b'{');
    for (member, cell) in members.iter().zip(cells) {
        push_member(line, member, &ValueText::of(cell)?);
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends a member, unless the value is absent.
fn push_member(line: &mut Vec<u8>, start: &[u8], value: &ValueText<'_>) {
    if matches!(value, ValueText::Absent) {
        return;
    }
    if line.len() > 1 {
        line.push(b',');
    }
    line.extend_from_slice(start);
    push_value(line, value);
}

impl Target for JsonLinesTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        self.directory.begin(content, |_| Vec::new())
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.directory.table(table)?;
        self.members = self.directory.column_names()?.map(member_start).collect();
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        match write_line(&mut self.line, &self.members, cells) {
            Ok(()) => self.directory.line(&self.line),
            Err(why) => self.directory.refuse_row(why),
        }
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.directory.finish()
    }
}
