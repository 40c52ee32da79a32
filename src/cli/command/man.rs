//! `sidekeep man`

use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;
use serde::Serialize;

use crate::cli::context::CommandContext;
use crate::cli::error::CliError;
use crate::cli::exit::Outcome;
use crate::cli::render::plural;

/// Print a manual page, or write all pages to a directory
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep man backup | man -l -
    sidekeep man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Command whose page to print [default: sidekeep itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Option<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Page {
    name: String,
    text: String,
}

#[derive(Serialize)]
struct ManPages {
    pages: Vec<Page>,
}

/// Prints a page, or writes all pages. `root` is the complete command line.
/// Fails if there is no such command, or the output cannot be written.
pub(crate) fn run(args: &ManArgs, mut root: clap::Command, context: &CommandContext) -> Result<Outcome, CliError> {
    root.build();
    match &args.dir {
        Some(dir) => write_all(&root, dir, context)?,
        None => print_one(&root, args.command.as_deref(), context)?,
    }
    Ok(Outcome::Done)
}

fn write_all(root: &clap::Command, dir: &Path, context: &CommandContext) -> Result<(), CliError> {
    let pages = ManPages { pages: commands(root).into_iter().map(page).collect() };
    pages.write(dir).map_err(CliError::unusable(format!("write manual pages to {}", dir.display())))?;
    context.ui.result("man", &pages, |pages| wrote_line(pages, dir))
}

fn wrote_line(pages: &ManPages, dir: &Path) -> String {
    let written = plural(pages.pages.len() as u64, "page");
    format!("wrote {written} to {}\n", dir.display())
}

fn print_one(root: &clap::Command, name: Option<&str>, context: &CommandContext) -> Result<(), CliError> {
    let name = name.unwrap_or("sidekeep");
    let command = commands(root).into_iter().find(|command| command.get_name() == name);
    let command = command.ok_or_else(|| no_command(name))?;
    let pages = ManPages { pages: vec![page(command)] };
    context.ui.result("man", &pages, |pages| pages.pages[0].text.clone())
}

fn no_command(name: &str) -> CliError {
    CliError::usage(format!("there is no command {name:?}"), "`sidekeep --help` lists the commands")
}

/// `root` and its subcommands.
fn commands(root: &clap::Command) -> Vec<&clap::Command> {
    let mut commands = vec![root];
    commands.extend(root.get_subcommands());
    commands
}

impl ManPages {
    fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        for page in &self.pages {
            std::fs::write(dir.join(&page.name), &page.text)?;
        }
        Ok(())
    }
}

fn page(command: &clap::Command) -> Page {
    let man = Man::new(command.clone()).source(concat!("sidekeep ", env!("CARGO_PKG_VERSION"))).manual("Sidekeep");
    let mut text = Vec::new();
    man.render(&mut text).expect("memory takes what is written");
    Page { name: man.get_filename(), text: String::from_utf8(text).expect("pages are made of UTF-8") }
}
