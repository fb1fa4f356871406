//! The binary `kontor`; all it does is in the library beside it.

use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;

// The C library's allocator keeps what a burst has used: after 30 chats at once a process stays at several times its
// idle size.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    server::run(server::cli::Cli::parse())
}
