//! Service files as libpq reads them: `[name]`, then `parameter=value` a line. The user's file comes before the
//! system's; in either the first section of that name counts.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::engine::postgres::connect::error::PostgresError;

/// Names and values; a value may be a password.
pub(crate) type Parameters = Vec<(String, Zeroizing<String>)>;

/// The parameters of a service.
pub(crate) fn parameters(name: &str, files: &[PathBuf]) -> Result<Parameters, PostgresError> {
    for path in files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(unusable(path, error.to_string())),
        };
        if let Some(parameters) = section(&text, name).map_err(|reason| unusable(path, reason))? {
            return Ok(parameters);
        }
    }
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let reason = format!("it is in none of {}", files.join(", "));
    Err(PostgresError::Address { what: format!("the service {name}"), reason })
}

fn unusable(path: &Path, reason: String) -> PostgresError {
    PostgresError::Address { what: format!("the service file {}", path.display()), reason }
}

/// `None`: there is no such section. Values are never part of an error.
fn section(text: &str, name: &str) -> Result<Option<Parameters>, String> {
    let mut found: Option<Parameters> = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if title.strip_suffix(']') == Some(name) {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("line {} is no parameter=value", at + 1));
        };
        if key == "service" {
            return Err(format!("line {} names a service within a service", at + 1));
        }
        parameters.push((key.to_owned(), Zeroizing::new(value.to_owned())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{parameters, section};

    fn pairs(text: &str, name: &str) -> Option<Vec<(String, String)>> {
        let found = section(text, name).expect("read");
        found.map(|list| list.into_iter().map(|(key, value)| (key, value.to_string())).collect())
    }

    #[test]
    fn a_section_ends_at_the_next() {
        let text = "# mine\n[one]\nhost=a\n  port=1  \n\n[two]\npassword=x=y\n#no\n[two]\nhost=b\n";
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(text, "one"), Some(vec![own("host", "a"), own("port", "1")]));
        assert_eq!(pairs(text, "two"), Some(vec![own("password", "x=y")]));
        assert_eq!(pairs(text, "three"), None);
    }

    #[test]
    fn errors_show_no_value() {
        assert_eq!(section("[a]\nhunter2\n", "a").expect_err("refused"), "line 2 is no parameter=value");
        assert!(section("[a]\nservice=b\n", "a").is_err());
        let missing = parameters("a", &["/nowhere/a".into(), "/nowhere/b".into()]).expect_err("none");
        assert_eq!(missing.to_string(), "cannot use the service a: it is in none of /nowhere/a, /nowhere/b");
    }
}
