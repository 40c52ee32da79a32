//! `sidekeep key revoke`

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use crate::base::revocation::RevocationReason;
use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::findings::{human_findings, outcome};
use crate::cli::render::{plural, printable};
use crate::ops::keys::revoke::{self, LedgerRevocations, RevocationReport};

/// Revoke a key: it writes nothing any more
///
/// Writes to the roster and then to the ledger of every source. If it was interrupted, run it again: what was written is
/// skipped. Needs an admin or recovery key, and a recovery key to revoke a recovery key. A key does not revoke itself, and
/// the last admin key is not revoked: add another one first.
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep key revoke 'host b' --reason retired --key-file admin.key
    sidekeep key revoke 4f1c --reason stolen --key-file admin.key")]
pub(super) struct KeyRevokeArgs {
    /// Key: its id, the beginning of its id, or its label
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: String,
    /// Why. Everything that a retired key wrote stays trusted. What a lost or stolen key wrote does not: the next backup
    /// uploads again what only that key had stored
    #[arg(long)]
    reason: ReasonWord,
}

/// Why a key is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ReasonWord {
    Retired,
    Lost,
    Stolen,
}

impl ReasonWord {
    pub(super) fn reason(self) -> RevocationReason {
        match self {
            Self::Retired => RevocationReason::Retired,
            Self::Lost => RevocationReason::Lost,
            Self::Stolen => RevocationReason::Stolen,
        }
    }
}

/// Revokes a key. Says what follows before it writes.
/// Fails if the repository cannot be unlocked, the key is not found or may not be revoked, or the roster cannot be written.
pub(super) fn run(args: &KeyRevokeArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut unlocked = context.unlocked()?;
    let plan = revoke::plan(&unlocked, &args.key, args.reason.reason())?;
    context.ui.say(&human_consequences(&plan.consequences))?;
    let report = revoke::revoke(&mut unlocked, plan)?;
    context.ui.result("key-revoke", &report, human)?;
    Ok(outcome(&report.findings))
}

/// What follows, one sentence per line.
pub(super) fn human_consequences(consequences: &[String]) -> String {
    consequences.iter().map(|text| format!("note: {}\n", printable(text))).collect()
}

fn human(report: &RevocationReport) -> String {
    let verb = if report.is_new { "revoked" } else { "was already revoked" };
    let label = printable(&report.plan.label);
    let key = format!("{} key {} ({label}) {verb}\n", report.plan.role, report.plan.key);
    key + &human_ledgers(&report.ledgers) + &human_findings(&report.findings)
}

/// Where a key is revoked besides the roster.
pub(super) fn human_ledgers(ledgers: &LedgerRevocations) -> String {
    let done = ledgers.written.len() + ledgers.known.len();
    let mut text = format!("revoked in {}\n", plural(done as u64, "ledger"));
    if !ledgers.missing.is_empty() {
        text += &format!("missing in {}\n", plural(ledgers.missing.len() as u64, "ledger"));
    }
    text
}
