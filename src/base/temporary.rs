//! Errors about temporary files, without the random names of the files.

use std::io;

/// The error without the path that the library for temporary files appends. The caller names the directory or the file
/// that the user knows.
#[must_use]
pub fn without_temporary_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.rsplit_once(" at path \"") {
        Some((reason, _)) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::without_temporary_name;

    #[test]
    fn the_name_is_removed_and_the_kind_stays() {
        let missing = tempfile::NamedTempFile::new_in(Path::new("/nowhere")).expect_err("no directory");
        assert!(missing.to_string().contains(".tmp"), "{missing}");
        let error = without_temporary_name(missing);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
        assert_eq!(without_temporary_name(io::Error::other("x")).to_string(), "x");
    }
}
