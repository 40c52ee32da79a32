//! How commands name a snapshot.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::context::{CommandContext, host_environment};
use super::exit::CliError;
use super::source::SourceAddress;
use super::time;
use crate::base::id::SourceId;
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::open::{Repository, Unlocked};

/// Which snapshot.
#[derive(Args)]
pub(crate) struct SnapshotArgs {
    /// The snapshot: its id or the beginning of it, latest, latest~2, or a tag
    #[arg(value_name = "SNAPSHOT", required_unless_present = "at", conflicts_with = "at")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    snapshot: Option<String>,
    /// The newest snapshot as of a time: 2026-11-22T03:00:00Z, "2026-11-22 03:00", "yesterday 03:00", "3 days ago";
    /// local time unless a zone is given
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Which source of a repository.
#[derive(Args)]
pub(crate) struct SourceArgs {
    /// The source, if the repository has several
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
}

impl SnapshotArgs {
    /// What to look for.
    pub(crate) fn selector(&self, context: &CommandContext) -> Result<Selector, CliError> {
        match (&self.snapshot, &self.at) {
            (_, Some(at)) => Ok(Selector::At(time::parse_past(at, &context.now())?)),
            (Some(text), None) => Ok(Selector::parse(text)),
            (None, None) => Ok(Selector::Latest(0)),
        }
    }
}

impl SourceArgs {
    /// What is named, as the repository knows it.
    pub(crate) fn name(&self) -> Option<String> {
        let text = self.source.as_deref()?;
        // Sources without a name of their own are known by their address.
        let address = SourceAddress::parse(text, &host_environment());
        Some(address.map_or_else(|_| text.to_owned(), |address| address.absolute().to_string()))
    }

    /// Whether one is named.
    pub(crate) fn is_named(&self) -> bool {
        self.source.is_some()
    }

    /// The source in a repository whose names cannot be read for want of a key.
    pub(crate) fn find_public(&self, repository: &Repository) -> Result<Option<SourceId>, CliError> {
        let Some(name) = &self.source else { return Ok(None) };
        match name.parse() {
            Ok(id) if repository.roster().sources.contains_key(&id) => Ok(Some(id)),
            _ => Err(RepoError::NoSource { name: name.clone() }.into()),
        }
    }

    /// The source in the repository.
    pub(crate) fn find(&self, unlocked: &Unlocked) -> Result<SourceId, CliError> {
        Ok(unlocked.find_source(self.name().as_deref())?)
    }
}
