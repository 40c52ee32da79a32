//! How commands name a snapshot.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::address::SourceAddress;
use super::context::CommandContext;
use super::environment::host_environment;
use super::error::CliError;
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
        if let Some(time) = &self.at {
            return Ok(Selector::At(time::parse_past(time, &context.now())?));
        }
        Ok(self.snapshot.as_deref().map_or(Selector::Latest(0), Selector::parse))
    }
}

impl SourceArgs {
    /// What is named, as the repository knows it.
    pub(crate) fn name(&self) -> Option<String> {
        let text = self.source.as_deref()?;
        match SourceAddress::parse(text, &host_environment()) {
            // Sources without a name of their own are known by their address.
            Ok(address) => Some(address.absolute().to_string()),
            Err(_) => Some(text.to_owned()),
        }
    }

    /// Whether one is named.
    pub(crate) fn is_named(&self) -> bool {
        self.source.is_some()
    }

    /// The source in a repository whose names cannot be read for want of a key.
    pub(crate) fn find_public(&self, repository: &Repository) -> Result<Option<SourceId>, CliError> {
        let Some(name) = &self.source else {
            return Ok(None);
        };
        match name.parse() {
            Ok(id) if repository.roster().sources.contains_key(&id) => Ok(Some(id)),
            _ => Err(RepoError::NoSource { name: name.clone() }.into()),
        }
    }

    /// The source that is named, if one is.
    pub(crate) fn find_named(&self, unlocked: &Unlocked) -> Result<Option<SourceId>, CliError> {
        if self.is_named() { self.find(unlocked).map(Some) } else { Ok(None) }
    }

    /// The source in the repository.
    pub(crate) fn find(&self, unlocked: &Unlocked) -> Result<SourceId, CliError> {
        Ok(unlocked.find_source(self.name().as_deref())?)
    }
}
