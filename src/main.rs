//! The `sidekeep` program. All code is in the library.

fn main() -> std::process::ExitCode {
    sidekeep::cli::main()
}
