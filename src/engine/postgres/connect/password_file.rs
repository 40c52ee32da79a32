//! Reads libpq's password file: each line is `host:port:database:user:password`, `*` matches anything, and `\` escapes
//! a colon or backslash. A file that others may read is not used.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The login that a password is needed for.
pub(crate) struct Login<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The first matching password. `None` if none matches or there is no file. An error says why the file is not used.
/// Follows "The Password File" in PostgreSQL's libpq documentation.
/// Fails if the file cannot be read, is not a regular file, is not UTF-8, or is accessible to its group or to others.
pub(crate) fn find_password(path: &Path, login: &Login<'_>) -> Result<Option<Zeroizing<String>>, String> {
    let text = match read_private(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(format!("the password file {} was not used: {error}", path.display())),
    };
    Ok(text.lines().find_map(|line| password_in(line, login)))
}

/// Reads a file that only its owner may access.
fn read_private(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut file = File::open(path)?;
    check_private(&file.metadata()?)?;
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn check_private(metadata: &Metadata) -> std::io::Result<()> {
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others may read it; chmod 600"));
    }
    Ok(())
}

/// The password of a line, if the line matches this login.
fn password_in(line: &str, login: &Login<'_>) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for expected in [login.host, &login.port.to_string(), login.database, login.user] {
        rest = after_matching_field(rest, expected)?;
    }
    // As in libpq, an unescaped colon ends the password.
    Some(PasswordField::first_of(rest).text)
}

/// The rest of the line if its first field matches `expected` or is `*`.
fn after_matching_field<'a>(line: &'a str, expected: &str) -> Option<&'a str> {
    let field = PasswordField::first_of(line);
    let is_missing = line.len() == field.rest.len();
    let matches = field.text.as_str() == expected || line.starts_with("*:");
    (!is_missing && matches).then_some(field.rest)
}

/// An unescaped field, and what follows its colon.
struct PasswordField<'a> {
    text: Zeroizing<String>,
    rest: &'a str,
}

impl<'a> PasswordField<'a> {
    fn first_of(line: &'a str) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(line.len()));
        let mut characters = line.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                ':' => return Self { text, rest: &line[at + 1..] },
                '\\' => text.push(characters.next().map_or('\\', |(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        Self { text, rest: "" }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::{Login, find_password, password_in};

    fn password(line: &str) -> Option<String> {
        let wanted = Login { host: "db.example", port: 5433, database: "a:b", user: "me" };
        password_in(line, &wanted).map(|password| password.to_string())
    }

    #[test]
    fn all_fields_must_match() {
        assert_eq!(password(r"db.example:5433:a\:b:me:se\\cr\:et").as_deref(), Some(r"se\cr:et"));
        assert_eq!(password("*:*:*:*:x").as_deref(), Some("x"));
        assert_eq!(password("*:*:*:me:").as_deref(), Some(""));
        for line in ["#*:*:*:*:x", "", "db.example", "*:5432:*:*:x", "*:*:a:me:x", r"\*:*:*:*:x", "*:*:*:you:x"] {
            assert_eq!(password(line), None, "{line}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pgpass");
        let wanted = Login { host: "h", port: 1, database: "d", user: "u" };
        assert!(find_password(&path, &wanted).expect("a missing file is not an error").is_none());
        write(&path, "x:1:d:u:wrong\nh:1:d:u:right\n*:*:*:*:later\n").expect("a file");
        set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        assert!(find_password(&path, &wanted).expect_err("refused").contains("chmod 600"));
        set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(find_password(&path, &wanted).expect("read").expect("found").as_str(), "right");
        assert!(find_password(dir.path(), &wanted).expect_err("refused").contains("not a regular file"));
    }
}
