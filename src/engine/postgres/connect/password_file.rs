//! Passwords from a file as libpq reads it: `host:port:database:user:password` a line, `*` for anything, `\` before
//! a colon that is meant. A file that others may read is not used.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// What a password is wanted for.
pub(crate) struct Wanted<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The first password that fits; `None` as well if there is no file. An error says why the file is not used.
pub(crate) fn look_up(path: &Path, wanted: &Wanted<'_>) -> Result<Option<Zeroizing<String>>, String> {
    let not_used = |why: &str| format!("the password file {} was not used: {why}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(not_used(&error.to_string())),
    };
    let metadata = file.metadata().map_err(|error| not_used(&error.to_string()))?;
    if !metadata.is_file() {
        return Err(not_used("it is no plain file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(not_used("others may read it; chmod 600"));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(|error| not_used(&error.to_string()))?;
    Ok(text.lines().find_map(|line| fits(line, wanted)))
}

fn fits(line: &str, wanted: &Wanted<'_>) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let port = wanted.port.to_string();
    let mut rest = line;
    for field in [wanted.host, &port, wanted.database, wanted.user] {
        let (written, after) = field_of(rest);
        if rest.len() == after.len() || (written.as_str() != field && !rest.starts_with("*:")) {
            return None;
        }
        rest = after;
    }
    // libpq takes the password to the end of the line, colons or not, once its own are undone.
    let (password, _) = field_of(rest);
    Some(password)
}

/// The first field with its escapes undone, and what follows its colon.
fn field_of(text: &str) -> (Zeroizing<String>, &str) {
    let mut field = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, &text[at + 1..]),
            '\\' => field.push(characters.next().map_or('\\', |(_, escaped)| escaped)),
            other => field.push(other),
        }
    }
    (field, "")
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::{Wanted, fits, look_up};

    fn password(line: &str) -> Option<String> {
        let wanted = Wanted { host: "db.example", port: 5433, database: "a:b", user: "me" };
        fits(line, &wanted).map(|password| password.to_string())
    }

    #[test]
    fn the_fields_must_fit() {
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
        let wanted = Wanted { host: "h", port: 1, database: "d", user: "u" };
        assert!(look_up(&path, &wanted).expect("no file is no error").is_none());
        write(&path, "x:1:d:u:wrong\nh:1:d:u:right\n*:*:*:*:later\n").expect("a file");
        set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        assert!(look_up(&path, &wanted).expect_err("refused").contains("chmod 600"));
        set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(look_up(&path, &wanted).expect("read").expect("found").as_str(), "right");
        assert!(look_up(dir.path(), &wanted).expect_err("refused").contains("no plain file"));
    }
}
