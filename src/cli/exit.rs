//! How a command ends, and the only exit codes.

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    /// Done, and something was found.
    Findings,
    NoRepository,
    Key,
    /// Somebody else's work stands in the way.
    InTheWay,
    /// Store, source or target are unreachable or refuse.
    Unreachable,
    Interrupted,
}

impl Exit {
    /// The number for the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Findings => 3,
            Self::NoRepository => 4,
            Self::Key => 5,
            Self::InTheWay => 6,
            Self::Unreachable => 7,
            Self::Interrupted => 130,
        }
    }
}

/// How a command that did its work ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    Findings,
}

impl Outcome {
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
    fn codes_are_those_of_the_contract() {
        use Exit::{Done, Failed, Findings, InTheWay, Interrupted, Key, NoRepository, Unreachable, Usage};
        let all = [Done, Failed, Usage, Findings, NoRepository, Key, InTheWay, Unreachable, Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
