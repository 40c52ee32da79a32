//! An error and its causes, as one line of text.

use std::error::Error;
use std::iter::successors;

/// The error, then its cause, and so on down to the first cause.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// The message of an error, followed by the messages of its causes. Skips a cause whose message the text already ends
/// with: transparent errors show their cause's message, and some libraries repeat it.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    causes(error).skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::{causes, describe};

    #[derive(Debug, Error)]
    enum Outer {
        #[error("cannot read {name}")]
        Named { name: &'static str, source: Inner },
        #[error(transparent)]
        Through(Inner),
        #[error("cannot write: {source}")]
        Repeats { source: io::Error },
    }

    #[derive(Debug, Error)]
    #[error("the disk")]
    struct Inner(#[source] io::Error);

    fn disk() -> Inner {
        Inner(io::Error::other("is gone"))
    }

    #[test]
    fn each_cause_is_said_once() {
        let named = Outer::Named { name: "a file", source: disk() };
        assert_eq!(describe(&named), "cannot read a file: the disk: is gone");
        assert_eq!(causes(&named).count(), 3);
        assert_eq!(describe(&Outer::Through(disk())), "the disk: is gone");
        assert_eq!(describe(&Outer::Repeats { source: io::Error::other("full") }), "cannot write: full");
        assert_eq!(describe(&io::Error::other("alone")), "alone");
    }
}
