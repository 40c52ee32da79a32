//! The encodings of PostgreSQL servers, by the numbers that PostgreSQL gives them (`docs/format.md` section 4).
//!
//! The numbers come from `pg_enc` in PostgreSQL's `pg_wchar.h`, which says that they never change.

/// Names by number. Those that only clients have follow, and no database has them.
const NAMES: [&str; 35] = [
    "sql_ascii",
    "euc_jp",
    "euc_cn",
    "euc_kr",
    "euc_tw",
    "euc_jis_2004",
    "utf-8",
    "mule_internal",
    "latin1",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "latin10",
    "win1256",
    "win1258",
    "win866",
    "win874",
    "koi8r",
    "win1251",
    "win1252",
    "iso_8859_5",
    "iso_8859_6",
    "iso_8859_7",
    "iso_8859_8",
    "win1250",
    "win1253",
    "win1254",
    "win1255",
    "win1257",
    "koi8u",
];
/// These have numbers of their own in the format: SQL_ASCII, UTF8 and LATIN1.
const ELSEWHERE: [u8; 3] = [0, 6, 8];

/// An encoding of a PostgreSQL server other than SQL_ASCII, UTF8 and LATIN1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerEncoding(u8);

impl ServerEncoding {
    /// The encoding with this number. `None` if there is none, or the format has another number for it.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        let is_known = usize::from(number) < NAMES.len() && !ELSEWHERE.contains(&number);
        is_known.then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}
