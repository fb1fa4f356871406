//! The binary `kontor`; all it does is in the library beside it.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    server::run(server::cli::Cli::parse())
}
