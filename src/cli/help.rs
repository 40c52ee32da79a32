//! The shape of the help: the most common commands first, the others by role, and global options in one place.

use clap::{Command, CommandFactory};

use super::args::Cli;

/// Headings of `sidekeep --help` and the commands below them, in the order in which they are listed.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Commands", &["backup", "snapshots", "restore", "verify", "status"]),
    ("For operators", &["init", "owners", "doctor"]),
    ("For admins and auditors", &["show", "diff"]),
    ("Other", &["demo", "completions", "man"]),
];

const GLOBAL_OPTIONS: &str = "\
Global options such as --repo, --key-file and --json are described in `sidekeep --help`.";

/// The command line with its help as people read it.
pub(crate) fn command_line() -> Command {
    let root = with_global_options_once();
    let template =
        format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{{all-args}}{{after-help}}", list(&root));
    // The template lists the commands, so the list that clap makes is hidden.
    let root = root.mut_subcommands(|command| command.hide(true));
    root.help_template(template).override_usage("sidekeep [OPTIONS] <COMMAND>")
}

/// The command line whose subcommands refer to the global options instead of repeating them.
pub(crate) fn with_global_options_once() -> Command {
    let mut root = Cli::command();
    // A built command has copied the global options to its subcommands, so that they can be hidden there.
    root.build();
    let globals = global_options(&root);
    root.mut_subcommands(|command| refer_to_global_options(command, &globals))
}

/// The groups with the first line of each command's help.
fn list(root: &Command) -> String {
    let width = root.get_subcommands().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text += &format!("{heading}:\n");
        for name in names {
            let about = root.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            text += &format!("  {name:width$}  {}\n", about.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

fn global_options(root: &Command) -> Vec<String> {
    let options = root.get_arguments().filter(|argument| argument.is_global_set());
    options.map(|argument| argument.get_id().to_string()).collect()
}

fn refer_to_global_options(command: Command, globals: &[String]) -> Command {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let hidden = command.mut_args(|argument| {
        let is_global = globals.iter().any(|global| *global == argument.get_id().as_str());
        if is_global { argument.hide(true) } else { argument }
    });
    hidden.after_help(format!("{GLOBAL_OPTIONS}\n\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let root = Cli::command();
        let mut expected: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        expected.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, expected);
    }
}
