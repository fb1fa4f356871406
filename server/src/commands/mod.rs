//! One file for each command of the binary.

pub mod admin;
pub mod certificates;
pub mod check;
pub mod jobs;
pub mod migrate;
pub mod serve;
pub mod worker;

use std::io::Write;

/// Prints a command's result. A closed pipe (`kontor … | head`) is no failure of the command.
pub fn print(text: &str) {
    drop(writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n')));
}
