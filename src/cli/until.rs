//! The option `--until-entry`.

use crate::cli::error::CliError;
use crate::repo::chain_ends::ChainEnds;

/// The last entry to be read of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UntilEntry {
    Roster(u64),
    Ledger(u64),
}

/// Reads `12`, the last entry of ledgers, or `roster:12`.
/// Fails if the text is neither, or if the number is 0.
pub(crate) fn parse(text: &str) -> Result<UntilEntry, String> {
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    let until = match text.strip_prefix("roster:") {
        Some(rest) => number(rest).map(UntilEntry::Roster),
        None => number(text).map(UntilEntry::Ledger),
    };
    until.ok_or_else(|| "name the number of a ledger entry, as in 12, or of a roster entry, as in roster:12".to_owned())
}

/// Where the chains end. If an option names a chain twice, the last one counts.
pub(crate) fn chain_ends(options: &[UntilEntry]) -> ChainEnds {
    let mut ends = ChainEnds::default();
    for option in options {
        match option {
            UntilEntry::Roster(last) => ends.roster = *last,
            UntilEntry::Ledger(last) => ends.ledger = *last,
        }
    }
    ends
}

/// The error for a command that writes.
pub(crate) fn refused() -> CliError {
    CliError::usage(
        "this command writes, so it must know the whole roster and ledger",
        "use --until-entry only with commands that read",
    )
}

/// The error for a check that would remember heads which are not the newest.
pub(crate) fn state_refused() -> CliError {
    CliError::usage("--state remembers the newest entries", "leave --state or --until-entry out")
}

#[cfg(test)]
mod tests {
    use super::{UntilEntry, chain_ends, parse};
    use crate::repo::chain_ends::ChainEnds;

    #[test]
    fn a_number_ends_the_ledger_unless_it_names_the_roster() {
        assert_eq!(parse("12"), Ok(UntilEntry::Ledger(12)));
        assert_eq!(parse("roster:3"), Ok(UntilEntry::Roster(3)));
        assert!(["", "0", "roster:", "roster:0", "ledger:1", "-1", "1x"].iter().all(|text| parse(text).is_err()));
        let ends = chain_ends(&[UntilEntry::Ledger(5), UntilEntry::Ledger(4)]);
        assert_eq!(ends, ChainEnds { ledger: 4, ..ChainEnds::default() });
    }
}
