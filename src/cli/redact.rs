//! Texts that may hold the password of a database, made fit to print. Errors on the side of hiding too much.

use url::Url;

/// Takes the place of a secret.
const HIDDEN: &str = "***";

/// The address of a database without its passwords; user, host and database stay. What is no address is not shown.
pub(crate) fn address(text: &str) -> String {
    let Some((scheme, _)) = text.split_once(':') else { return HIDDEN.to_owned() };
    let Ok(mut url) = Url::parse(text) else { return format!("{scheme}:{HIDDEN}") };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return format!("{scheme}:{HIDDEN}");
    }
    if url.query().is_some_and(|query| query.to_ascii_lowercase().contains("pass")) {
        url.set_query(Some(HIDDEN));
    }
    // Only a scheme in small letters is one that we know: which it was must show.
    let shown = url.to_string();
    shown.split_once(':').map_or(shown.clone(), |(_, rest)| format!("{scheme}:{rest}"))
}

/// A text of any kind, in which what stands before the host of each address is hidden.
pub(crate) fn message(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let (word, tail) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        let word = match word.rsplit_once('@') {
            Some((_, host)) => format!("{HIDDEN}@{host}"),
            None => word.to_owned(),
        };
        match word.split_once('?') {
            Some((word, query)) if query.to_ascii_lowercase().contains("pass") => {
                shown.push_str(word);
                shown.push('?');
                shown.push_str(HIDDEN);
            }
            _ => shown.push_str(&word),
        }
        rest = tail;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::{address, message};

    #[test]
    fn addresses_keep_everything_but_passwords() {
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
    fn messages_lose_what_stands_before_hosts() {
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
