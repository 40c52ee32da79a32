//! From the process to a command and back: arguments, runtime, the one place where panics and errors end.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use super::args::{Cli, Command};
use super::command;
use super::context::CommandContext;
use super::exit::{CliError, Exit, Outcome};
use super::ui::{Ui, err};

/// Threads that wait for the store; the work itself has threads of its own.
const RUNTIME_THREADS: usize = 2;

/// Runs the command line that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Whoever asked may have gone.
            let _ = error.print();
            let exit = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            };
            return exit.code().into();
        }
    };
    let ui = cli.global.ui();
    let result = catch_unwind(AssertUnwindSafe(|| run(cli))).unwrap_or(Err(CliError::Bug));
    end(ui, result).code().into()
}

fn end(ui: Ui, result: Result<Outcome, CliError>) -> Exit {
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) => ui.fail(&error),
    }
}

fn run(cli: Cli) -> Result<Outcome, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { doing: "start threads".to_owned(), source })?;
    let context = CommandContext::new(cli.global, runtime.handle().clone());
    let result = dispatch(cli.command, &context);
    // Requests of an operation that failed are not waited for.
    runtime.shutdown_background();
    result
}

fn dispatch(command: Command, context: &CommandContext) -> Result<Outcome, CliError> {
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
        Command::Doctor(args) => command::doctor::run(&args, context),
        Command::Demo(args) => command::demo::run(&args, context),
        Command::Completions(args) => command::completions::run(&args, context),
        Command::Man(args) => command::man::run(&args, context),
    }
}

/// Says where, but neither what values were at hand nor by which way, because those may be secrets.
fn report_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    // A message without arguments is a literal of the program.
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("an invariant does not hold");
    err(&format!("sidekeep {} stopped at {place}: {message}\n", env!("CARGO_PKG_VERSION")));
}
