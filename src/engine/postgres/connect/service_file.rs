//! Reads libpq's service files: `[name]`, then lines of `parameter=value`. The user's file takes precedence over the
//! system's. In each, the first section of that name is used.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::engine::postgres::connect::error::PostgresError;

/// Names and values. A value may be a password.
pub(crate) type ServiceParameters = Vec<(String, Zeroizing<String>)>;

/// The parameters of a service.
/// Follows "The Connection Service File" in PostgreSQL's libpq documentation.
/// Fails if no file has a section of this name, an existing file cannot be read or is not UTF-8, or a line of the
/// section is not `parameter=value` or refers to another service.
pub(crate) fn parameters(name: &str, files: &[PathBuf]) -> Result<ServiceParameters, PostgresError> {
    for path in files {
        let Some(text) = read(path)? else { continue };
        if let Some(parameters) = section(&text, name).map_err(|reason| unusable(path, reason))? {
            return Ok(parameters);
        }
    }
    Err(no_such_service(name, files))
}

fn no_such_service(name: &str, files: &[PathBuf]) -> PostgresError {
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let reason = format!("it was not found in {}", files.join(", "));
    PostgresError::Address { what: format!("the service {name}"), reason }
}

/// None if the file does not exist.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, PostgresError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unusable(path, error.to_string())),
    }
}

fn unusable(path: &Path, reason: String) -> PostgresError {
    PostgresError::Address { what: format!("the service file {}", path.display()), reason }
}

/// None if there is no such section. Errors never contain values.
fn section(text: &str, name: &str) -> Result<Option<ServiceParameters>, String> {
    let mut found: Option<ServiceParameters> = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match (line.strip_prefix('['), &mut found) {
            (Some(_), Some(_)) => break,
            (Some(title), None) if title.strip_suffix(']') == Some(name) => found = Some(Vec::new()),
            (None, Some(parameters)) => parameters.push(parameter(line, at + 1)?),
            (_, None) => {}
        }
    }
    Ok(found)
}

fn parameter(line: &str, number: usize) -> Result<(String, Zeroizing<String>), String> {
    let (key, value) = line.split_once('=').ok_or_else(|| format!("line {number} is not parameter=value"))?;
    if key == "service" {
        return Err(format!("line {number} refers to another service, which a service must not do"));
    }
    Ok((key.to_owned(), Zeroizing::new(value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::{parameters, section};

    fn pairs(text: &str, name: &str) -> Option<Vec<(String, String)>> {
        let found = section(text, name).expect("read");
        found.map(|list| list.into_iter().map(|(key, value)| (key, value.to_string())).collect())
    }

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "# mine\n[one]\nhost=a\n  port=1  \n\n[two]\npassword=x=y\n#no\n[two]\nhost=b\n";
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(text, "one"), Some(vec![own("host", "a"), own("port", "1")]));
        assert_eq!(pairs(text, "two"), Some(vec![own("password", "x=y")]));
        assert_eq!(pairs(text, "three"), None);
    }

    #[test]
    fn errors_show_no_values() {
        assert_eq!(section("[a]\nhunter2\n", "a").expect_err("refused"), "line 2 is not parameter=value");
        assert!(section("[a]\nservice=b\n", "a").is_err());
        let missing = parameters("a", &["/nowhere/a".into(), "/nowhere/b".into()]).expect_err("none");
        assert_eq!(missing.to_string(), "cannot use the service a: it was not found in /nowhere/a, /nowhere/b");
    }
}
