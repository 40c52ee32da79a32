//! Arguments that select a snapshot or a source.

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

/// Selects a snapshot.
#[derive(Args)]
pub(crate) struct SnapshotArgs {
    /// Snapshot: an id or the start of one, a tag, latest, or latest~2 (two before the latest)
    #[arg(value_name = "SNAPSHOT", required_unless_present = "at", conflicts_with = "at")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    snapshot: Option<String>,
    /// Use the newest snapshot as of this time: 2026-11-22T03:00:00Z, "2026-11-22 03:00", "yesterday 03:00" or "3 days
    /// ago"; local time unless it has a time zone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Selects a source of the repository.
#[derive(Args)]
pub(crate) struct SourceArgs {
    /// Select the source, if the repository has several
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    source: Option<String>,
}

impl SnapshotArgs {
    /// The snapshot to look for.
    /// Fails if the time cannot be parsed, is ambiguous, or is in the future.
    pub(crate) fn selector(&self, context: &CommandContext) -> Result<Selector, CliError> {
        if let Some(time) = &self.at {
            return Ok(Selector::At(time::parse_past(time, &context.now())?));
        }
        Ok(self.snapshot.as_deref().map_or(Selector::Latest(0), Selector::parse))
    }
}

impl SourceArgs {
    /// The id or the name of the source in the repository, if the user named one. The configuration may pin the id.
    /// Fails if the configuration cannot be read.
    fn wanted(&self, context: &CommandContext) -> Result<Option<String>, CliError> {
        self.source.as_deref().map(|text| wanted_source(text, context)).transpose()
    }

    /// Whether the user named a source.
    pub(crate) fn is_named(&self) -> bool {
        self.source.is_some()
    }

    /// Finds the source by its id, because names cannot be read without a key.
    /// Fails if the text is not the id of a source in the roster, and the configuration gives it none.
    pub(crate) fn find_public(
        &self,
        repository: &Repository,
        context: &CommandContext,
    ) -> Result<Option<SourceId>, CliError> {
        let Some(name) = self.wanted(context)? else {
            return Ok(None);
        };
        match name.parse() {
            Ok(id) if repository.roster().sources.contains_key(&id) => Ok(Some(id)),
            _ => Err(RepoError::NoSource { name }.into()),
        }
    }

    /// Finds the source, if the user named one.
    /// Fails as [`Self::find`] does.
    pub(crate) fn find_named(
        &self,
        unlocked: &Unlocked,
        context: &CommandContext,
    ) -> Result<Option<SourceId>, CliError> {
        if self.is_named() { self.find(unlocked, context).map(Some) } else { Ok(None) }
    }

    /// Finds the source in the repository.
    /// Fails if no source has this name or id, or the configuration cannot be read. Without a name, fails if there is not
    /// exactly one source.
    pub(crate) fn find(&self, unlocked: &Unlocked, context: &CommandContext) -> Result<SourceId, CliError> {
        Ok(unlocked.find_source(self.wanted(context)?.as_deref())?)
    }
}

/// The id or the name in the repository of the source that the user calls `text`. The configuration may pin the id.
/// Fails if the configuration cannot be read.
pub(crate) fn wanted_source(text: &str, context: &CommandContext) -> Result<String, CliError> {
    if let Some(id) = context.config()?.source.get(text).and_then(|source| source.id) {
        return Ok(id.to_string());
    }
    match SourceAddress::parse(text, &host_environment()) {
        // The address is the name of a source that is not in the configuration.
        Ok(address) => Ok(address.absolute().to_string()),
        Err(_) => Ok(text.to_owned()),
    }
}
