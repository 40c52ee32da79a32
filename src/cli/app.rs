//! From the process to a command and back: arguments, log and runtime. All panics and errors end here.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tokio::runtime::Runtime;

use super::args::{Cli, Command};
use super::context::CommandContext;
use super::error::CliError;
use super::exit::{Exit, Outcome};
use super::findings::human_findings;
use super::ui::{Ui, write_err};
use super::{command, help, logging, until};

/// Threads that wait for the store. The work itself runs in other threads.
const RUNTIME_THREADS: usize = 2;

/// Runs the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let exit = match parse_arguments() {
        Ok(arguments) => run_arguments(arguments),
        Err(error) => report_usage(&error),
    };
    exit.code().into()
}

/// A valid command line.
struct Arguments {
    cli: Cli,
    shape: CommandLineShape,
}

/// Names of the options on a command line, for the log. Values may be secrets and are left out.
struct CommandLineShape {
    command: String,
    options: Vec<String>,
    variables: Vec<String>,
}

fn parse_arguments() -> Result<Arguments, clap::Error> {
    let mut command = help::command_line();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let shape = CommandLineShape::of(&command, &matches);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Arguments { cli, shape })
}

impl CommandLineShape {
    fn of(root: &clap::Command, matches: &ArgMatches) -> Self {
        let (name, matches) = matches.subcommand().unwrap_or(("", matches));
        let command = root.find_subcommand(name).unwrap_or(root);
        let options = arguments_from(ValueSource::CommandLine, command, matches);
        let variables = arguments_from(ValueSource::EnvVariable, command, matches);
        Self { command: name.to_owned(), options, variables }
    }

    fn log(&self) {
        let options = self.options.join(" ");
        let variables = self.variables.join(" ");
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, command = self.command, options, variables, "command begins");
    }
}

/// The names of the arguments whose values come from `source`.
fn arguments_from(source: ValueSource, command: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let mut names = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        if matches.value_source(id) == Some(source) {
            names.push(id.to_owned());
        }
    }
    names
}

/// Prints the help, or the error in the command line.
fn report_usage(error: &clap::Error) -> Exit {
    // The reader of the output may have gone away.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

fn run_arguments(arguments: Arguments) -> Exit {
    let ui = arguments.cli.global.ui();
    let run = AssertUnwindSafe(|| run_logged(arguments));
    match catch_unwind(run).unwrap_or(Err(CliError::Bug)) {
        Ok(outcome) => succeed(outcome),
        Err(error) => fail(ui, &error),
    }
}

fn run_logged(arguments: Arguments) -> Result<Outcome, CliError> {
    logging::start(&arguments.cli.global.log_options())?;
    arguments.shape.log();
    run(arguments.cli)
}

fn succeed(outcome: Outcome) -> Exit {
    let exit = Exit::from(outcome);
    tracing::info!(exit_code = exit.code(), "command ends");
    exit
}

fn fail(ui: Ui, error: &CliError) -> Exit {
    let exit = error.exit();
    tracing::error!(exit_code = exit.code(), error = error.log_text(), "command fails");
    ui.fail(error);
    exit
}

fn run(cli: Cli) -> Result<Outcome, CliError> {
    let runtime = start_runtime()?;
    let context = CommandContext::new(cli.global, runtime.handle().clone());
    let result = dispatch(cli.command, &context);
    if let Err(error) = &result {
        warn_of_heads(&context, error);
    }
    // Do not wait for pending requests of a failed operation.
    runtime.shutdown_background();
    result
}

/// A failed command has no findings. A chain that went back may be the reason why it failed.
fn warn_of_heads(context: &CommandContext, error: &CliError) {
    let message = error.chain();
    for finding in context.head_findings().iter().filter(|finding| !message.contains(&finding.detail)) {
        context.ui.warn(human_findings([finding]).trim_end());
    }
}

fn start_runtime() -> Result<Runtime, CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(RUNTIME_THREADS).enable_all();
    builder.build().map_err(CliError::cannot("start threads"))
}

fn dispatch(command: Command, context: &CommandContext) -> Result<Outcome, CliError> {
    if context.reads_in_part() && command.writes() {
        return Err(until::refused());
    }
    match command {
        Command::Init(args) => command::init::run(&args, context),
        Command::Owners(args) => command::owners::run(&args, context),
        Command::Backup(args) => command::backup::run(&args, context),
        Command::Snapshots(args) => command::snapshots::run(&args, context),
        Command::Show(args) => command::show::run(&args, context),
        Command::Diff(args) => command::diff::run(&args, context),
        Command::Restore(args) => command::restore::run(&args, context),
        Command::Verify(args) => command::verify::run(&args, context),
        Command::Status(args) => command::status::run(&args, context),
        Command::Source(args) => command::source::run(&args, context),
        Command::Key(args) => command::key::run(&args, context),
        Command::Doctor(args) => command::doctor::run(&args, context),
        Command::Demo(args) => command::demo::run(&args, context),
        Command::Completions(args) => command::completions::run(&args, Cli::command(), context),
        Command::Man(args) => command::man::run(&args, help::with_global_options_once(), context),
    }
}

/// Reports where the program panicked. Values and backtraces may contain secrets and are left out.
fn report_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = panic_message(info);
    tracing::error!(place, reason = message, "the program panics");
    write_err(&format!("sidekeep {} stopped at {place}: {message}\n", env!("CARGO_PKG_VERSION")));
}

/// Only a message without arguments is shown. A formatted message may quote data.
fn panic_message(info: &PanicHookInfo<'_>) -> &'static str {
    let literal = info.payload().downcast_ref::<&'static str>();
    literal.copied().unwrap_or("an invariant does not hold")
}
