//! The `sidekeep` program: everything is in the library.

fn main() -> std::process::ExitCode {
    sidekeep::cli::main()
}
