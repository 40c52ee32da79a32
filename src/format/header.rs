//! The first twelve bytes of every binary object (`docs/format.md` section 1).

use crate::base::frame::FrameContext;
use crate::base::id::{Epoch, RepositoryId, SourceId};
use crate::format::wire::{Take, WireError};

/// The kind of a binary object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ObjectKind {
    Pack = b'P',
    Manifest = b'M',
    Index = b'I',
    Grant = b'K',
    Bundle = b'E',
    ReportBody = b'B',
}

/// Length of a header.
pub const LEN: usize = 12;

const MAGIC: &[u8; 8] = b"SIDEKEEP";
const VERSION: u8 = 1;

/// Appends the header of an object of this kind.
pub fn write(out: &mut Vec<u8>, kind: ObjectKind) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[kind as u8, VERSION, 0, 0]);
}

/// Appends the repository, source and epoch of an object's frames.
pub fn write_context(out: &mut Vec<u8>, context: &FrameContext) {
    out.extend_from_slice(context.repository.as_bytes());
    out.extend_from_slice(context.source.as_bytes());
    out.extend_from_slice(&context.epoch.0.to_le_bytes());
}

/// Reads the repository, source and epoch of an object's frames.
/// Fails if the bytes end before that.
pub fn read_context(take: &mut Take<'_>) -> Result<FrameContext, WireError> {
    let repository = RepositoryId::new(take.array("repository id")?);
    let source = SourceId::new(take.array("source id")?);
    let epoch = Epoch(take.u32("epoch")?);
    Ok(FrameContext { repository, source, epoch })
}

/// Reads a header.
/// Fails if the bytes are not a Sidekeep object (`WireError::Foreign`), if its version is unknown, or if it is not of
/// this kind.
pub fn read(take: &mut Take<'_>, kind: ObjectKind) -> Result<(), WireError> {
    read_magic(take)?;
    let [found, version, reserved @ ..] = take.array::<4>("header")?;
    if version != VERSION || reserved != [0, 0] {
        return Err(WireError::unsupported("object version", version));
    }
    check_kind(found, kind)
}

fn check_kind(found: u8, wanted: ObjectKind) -> Result<(), WireError> {
    if found == wanted as u8 { Ok(()) } else { Err(WireError::Invalid { what: "object kind" }) }
}

fn read_magic(take: &mut Take<'_>) -> Result<(), WireError> {
    match take.raw(MAGIC.len(), "magic") {
        Ok(magic) if magic == MAGIC => Ok(()),
        _ => Err(WireError::Foreign),
    }
}
