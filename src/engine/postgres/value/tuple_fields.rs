//! The fields of one tuple of a copy, as spans of the tuple's bytes.

/// The fields of a tuple.
#[derive(Clone, Copy)]
pub(super) struct TupleFields<'a> {
    pub(super) tuple: &'a [u8],
    pub(super) spans: &'a [Option<FieldSpan>],
}

/// The position of a field in its tuple.
#[derive(Clone, Copy)]
pub(super) struct FieldSpan {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl FieldSpan {
    fn bytes_of(self, tuple: &[u8]) -> &[u8] {
        &tuple[self.start..self.end]
    }
}

impl<'a> TupleFields<'a> {
    /// The fields in order. `None` is NULL.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let tuple = self.tuple;
        self.spans.iter().map(move |span| span.map(|span| span.bytes_of(tuple)))
    }
}
