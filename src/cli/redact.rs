//! Removes passwords from texts before they are printed. When in doubt, hides too much.

use url::Url;

/// Replaces a secret.
const HIDDEN: &str = "***";

/// The address of a database without its passwords. User, host and database stay. A text that is not an address is
/// hidden completely.
pub(crate) fn address(text: &str) -> String {
    let Some((scheme, _)) = text.split_once(':') else {
        return HIDDEN.to_owned();
    };
    match Url::parse(text).ok().and_then(without_passwords) {
        Some(url) => with_scheme(url, scheme),
        None => format!("{scheme}:{HIDDEN}"),
    }
}

/// `url` with the scheme as the user wrote it. Parsing changes it to lower case, and then it could look supported.
fn with_scheme(url: Url, scheme: &str) -> String {
    match url.as_str().split_once(':') {
        Some((_, rest)) => format!("{scheme}:{rest}"),
        None => url.into(),
    }
}

/// `url` without its passwords. `None` if they cannot be removed.
fn without_passwords(mut url: Url) -> Option<Url> {
    if url.password().is_some() {
        url.set_password(Some(HIDDEN)).ok()?;
    }
    if url.query().is_some_and(may_hold_password) {
        url.set_query(Some(HIDDEN));
    }
    Some(url)
}

/// Whether the query of an address may contain a password.
fn may_hold_password(query: &str) -> bool {
    query.to_ascii_lowercase().contains("pass")
}

/// Any text, with everything before the host of each address hidden.
pub(crate) fn message(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        shown.push_str(before);
        rest = push_address(&mut shown, after);
    }
    shown + rest
}

/// Appends the address at the start of `text`, and returns the rest.
fn push_address<'a>(shown: &mut String, text: &'a str) -> &'a str {
    let (address, tail) = text.split_at(text.find(ends_address).unwrap_or(text.len()));
    shown.push_str(&without_user(address));
    tail
}

/// Whether `c` ends an address in a text.
fn ends_address(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

/// The part of an address after the scheme, without user and password, and without a query that may contain a
/// password.
fn without_user(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, host)) => without_query(&format!("{HIDDEN}@{host}")),
        None => without_query(address),
    }
}

fn without_query(address: &str) -> String {
    match address.split_once('?') {
        Some((path, query)) if may_hold_password(query) => format!("{path}?{HIDDEN}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{address, message};

    #[test]
    fn addresses_lose_only_their_passwords() {
        for (text, shown) in [
            ("postgres://ana:hunter2@db:5432/sync", "postgres://ana:***@db:5432/sync"),
            ("postgres://ana@db/sync?sslmode=require", "postgres://ana@db/sync?sslmode=require"),
            ("postgres://db/sync?user=ana&password=hunter2", "postgres://db/sync?***"),
            ("postgres://ana:hunter2/x@db/sync", "postgres:***"),
            ("host=db password=hunter2", "***"),
            ("sqlite:///srv/sync.db", "sqlite:///srv/sync.db"),
            ("POSTGRES://a:hunter2@db/x", "POSTGRES://a:***@db/x"),
        ] {
            assert_eq!(address(text), shown);
        }
    }

    #[test]
    fn everything_before_the_host_of_an_address_is_hidden_in_messages() {
        for (text, shown) in [
            (
                r#"invalid type: string "postgres://a:hunter2@db/x", expected a map"#,
                r#"invalid type: string "postgres://***@db/x", expected a map"#,
            ),
            ("at postgres://a:hunt/er2@db and s3://bucket/p", "at postgres://***@db and s3://bucket/p"),
            ("postgres://db/x?password=hunter2", "postgres://db/x?***"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(message(text), shown);
        }
    }
}
