//! Sends cells as the parameters of an INSERT, for rows with a value that has no text.

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use crate::engine::postgres::value::field_encoder::{
    EncodeError, EncodeTarget, interval_bytes, is_binary_only, push_scalar_text, text_of,
};
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::cell::Cell;

/// A cell as a parameter of an INSERT. The parameter has the column's type.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    pub cell: Cell<'a>,
    pub kind: ValueKind,
    pub target: EncodeTarget,
}

impl Parameter<'_> {
    /// Appends the value, in its type's binary form if [`Parameter::is_binary`] and otherwise as text.
    fn push(&self, out: &mut BytesMut) -> Result<IsNull, EncodeError> {
        match self.cell {
            Cell::Null | Cell::Lost => return Ok(IsNull::Yes),
            Cell::Bytes(bytes) => out.extend_from_slice(bytes),
            _ if self.is_binary() => self.push_binary(out),
            _ => self.push_text(out)?,
        }
        Ok(IsNull::No)
    }

    fn push_text(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if let Some(text) = text_of(&self.cell, self.target.encoding)? {
            out.extend_from_slice(&text);
            return Ok(());
        }
        let mut words = Vec::new();
        push_scalar_text(&mut words, &self.cell, self.kind, self.target)?;
        out.extend_from_slice(&words);
        Ok(())
    }

    fn is_binary(&self) -> bool {
        matches!(self.cell, Cell::Bytes(_)) || is_binary_only(&self.cell, self.kind, self.target)
    }

    fn push_binary(&self, out: &mut BytesMut) {
        match self.cell {
            Cell::Real(value) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
            Cell::Real32(value) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
            Cell::Interval { months, days, microseconds } => {
                out.extend_from_slice(&interval_bytes(months, days, microseconds));
            }
            Cell::Text(text) => out.extend_from_slice(&[octal_byte(text)]),
            _ => unreachable!("all other cells have a text"),
        }
    }
}

/// The byte that a backslash and three octal digits encode. A first digit above 3 overflows, as it does in the server.
fn octal_byte(text: &str) -> u8 {
    text.bytes().skip(1).fold(0u8, |byte, digit| byte << 3 | (digit & 7))
}

type ToSqlResult = Result<IsNull, Box<dyn std::error::Error + Sync + Send + 'static>>;

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> ToSqlResult {
        Ok(self.push(out)?)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.is_binary() { Format::Binary } else { Format::Text }
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> ToSqlResult {
        self.to_sql(ty, out)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Parameter;
    use crate::engine::postgres::connect::session_settings::SessionEncoding;
    use crate::engine::postgres::value::field_encoder::EncodeTarget;
    use crate::engine::postgres::value::value_kind::ValueKind;
    use crate::format::cell::Cell;

    #[test]
    fn a_char_that_a_version_cannot_read_from_text_is_sent_as_a_byte() {
        let target = EncodeTarget { version: 13, encoding: SessionEncoding::Utf8 };
        let mut out = BytesMut::new();
        let high = Parameter { cell: Cell::Text("\\376"), kind: ValueKind::Char, target };
        high.push(&mut out).expect("a byte");
        assert_eq!(&out[..], [0xfe]);
    }
}
