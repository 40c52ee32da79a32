//! `sidekeep man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use serde::Serialize;

use crate::cli::args::Cli;
use crate::cli::context::CommandContext;
use crate::cli::exit::{CliError, Outcome};
use crate::cli::render::plural;

/// Print a manual page, or write all of them
#[derive(Args)]
#[command(after_help = "\
Examples:
    sidekeep man backup | man -l -
    sidekeep man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The command whose page is printed; default: sidekeep itself
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

pub(crate) fn run(args: &ManArgs, context: &CommandContext) -> Result<Outcome, CliError> {
    let mut root = Cli::command();
    root.build();
    let commands = std::iter::once(&root).chain(root.get_subcommands());
    if let Some(dir) = &args.dir {
        let failed = |source| CliError::Io { doing: format!("write manual pages to {}", dir.display()), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let pages = ManPages { pages: commands.map(page).collect() };
        for page in &pages.pages {
            std::fs::write(dir.join(&page.name), &page.text).map_err(failed)?;
        }
        context.ui.result("man", &pages, |pages| {
            format!("wrote {} to {}\n", plural(pages.pages.len() as u64, "page"), dir.display())
        })?;
        return Ok(Outcome::Done);
    }
    let wanted = args.command.as_deref().unwrap_or("sidekeep");
    let Some(command) = commands.into_iter().find(|command| command.get_name() == wanted) else {
        return Err(CliError::Usage {
            message: format!("there is no command {wanted:?}"),
            hint: "`sidekeep --help` lists the commands",
        });
    };
    context.ui.result("man", &ManPages { pages: vec![page(command)] }, |pages| pages.pages[0].text.clone())?;
    Ok(Outcome::Done)
}

fn page(command: &clap::Command) -> Page {
    let man = Man::new(command.clone()).source(concat!("sidekeep ", env!("CARGO_PKG_VERSION"))).manual("Sidekeep");
    let mut text = Vec::new();
    man.render(&mut text).expect("memory takes what is written");
    Page { name: man.get_filename(), text: String::from_utf8(text).expect("pages are made of UTF-8") }
}
