//! How a command ends. No other module chooses exit codes.

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    /// Done, with findings that need attention.
    Findings,
    NoRepository,
    Key,
    /// A repository exists already, or another process was faster.
    Blocked,
    /// The store, source or target is unreachable or refused the request.
    Unreachable,
    Interrupted,
}

impl Exit {
    /// The exit code of the process.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Findings => 3,
            Self::NoRepository => 4,
            Self::Key => 5,
            Self::Blocked => 6,
            Self::Unreachable => 7,
            Self::Interrupted => 130,
        }
    }
}

/// How a successful command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    Findings,
}

impl Outcome {
    /// The outcome of a command that may have found something.
    pub(crate) fn with_findings(is_found: bool) -> Self {
        if is_found { Self::Findings } else { Self::Done }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Findings => Self::Findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        use Exit::{Blocked, Done, Failed, Findings, Interrupted, Key, NoRepository, Unreachable, Usage};
        let all = [Done, Failed, Usage, Findings, NoRepository, Key, Blocked, Unreachable, Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
