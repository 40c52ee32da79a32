//! The layout of the help: the most common commands first, then the others by role. Global options are in one place.

use clap::{Command, CommandFactory};

use super::args::Cli;

/// The headings of `sidekeep --help` and the commands below them, in order.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Commands", &["backup", "snapshots", "restore", "verify", "status"]),
    ("For operators", &["init", "owners", "doctor"]),
    ("For admins and auditors", &["show", "diff", "source", "key"]),
    ("Other", &["demo", "completions", "man"]),
];

const GLOBAL_OPTIONS: &str = "\
For global options such as --repo, --key-file and --json, see `sidekeep --help`.";

/// The command line with grouped help.
pub(crate) fn command_line() -> Command {
    let root = with_global_options_once();
    let template =
        format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{{all-args}}{{after-help}}", list(&root));
    // The template lists the commands, so hide clap's own list.
    let root = root.mut_subcommands(|command| command.hide(true));
    root.help_template(template).override_usage("sidekeep [OPTIONS] <COMMAND>")
}

/// The command line whose subcommands refer to the global options instead of repeating them.
pub(crate) fn with_global_options_once() -> Command {
    let mut root = Cli::command();
    // Building copies the global options to the subcommands. Only then can they be hidden there.
    root.build();
    let globals = global_options(&root);
    root.mut_subcommands(|command| refer_to_global_options(command, &globals))
}

/// The groups of commands, with the first line of each command's help.
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
    fn every_command_is_in_exactly_one_group() {
        let root = Cli::command();
        let mut expected: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        expected.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, expected);
    }
}
