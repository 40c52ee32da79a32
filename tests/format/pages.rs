//! Pages of wraps (`docs/format.md` section 9). They are long and repetitive, so only their header and digest are
//! committed.

use data_encoding::HEXLOWER;
use sidekeep::base::frame::SessionWrap;
use sidekeep::base::id::{Digest, RepositoryId, SourceId};
use sidekeep::format::manifest::WrapPage;
use sidekeep::format::wire::WireError;

use crate::vectors::golden;

fn page() -> WrapPage {
    let wraps = (0..64).map(|n| SessionWrap::new([n; SessionWrap::LEN])).collect();
    WrapPage { repository: RepositoryId::new([0x11; 16]), source: SourceId::new([0x22; 16]), wraps }
}

#[test]
fn pages_match_the_vector() {
    let bytes = page().to_bytes();
    assert_eq!(bytes.len(), 12 + 16 + 16 + 64 * SessionWrap::LEN);
    let text = format!("{}\n{}\n", HEXLOWER.encode(&bytes[..60]), Digest::of(&bytes));
    golden("wraps.txt", text.as_bytes());
    assert_eq!(WrapPage::read(&bytes), Ok(page()));
}

#[test]
fn malformed_pages_are_refused() {
    let bytes = page().to_bytes();
    let read = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        WrapPage::read(&bytes).map(drop).expect_err("refused")
    };
    assert!(matches!(read(|bytes| bytes[0] = b'X'), WireError::Foreign));
    assert!(matches!(
        read(|bytes| bytes[8] = b'M'),
        WireError::Foreign | WireError::Unsupported { .. } | WireError::Invalid { .. }
    ));
    assert!(matches!(read(|bytes| bytes[9] = 2), WireError::Unsupported { .. }));
    assert!(matches!(read(|bytes| bytes[10] = 1), WireError::Unsupported { .. }));
    assert!(matches!(read(|bytes| bytes.truncate(5000)), WireError::Truncated { .. } | WireError::Invalid { .. }));
    read(|bytes| bytes.push(0));
}
