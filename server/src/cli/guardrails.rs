//! Commands about guardrails: names and help.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum GuardrailsCommand {
    /// Give a tenant these guardrails in the place of those that it has; in force within two seconds.
    SetGuardrails {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        /// JSON: {"rules": [{"name", "check", "on", "action"}, …]}; docs/OPERATIONS.md has an example.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a tenant's guardrails, as --file takes them.
    ShowGuardrails {
        #[arg(long)]
        tenant: String,
    },
    /// Take a tenant's guardrails away.
    RemoveGuardrails {
        #[arg(long)]
        tenant: String,
    },
    /// Tell what a tenant's guardrails see in a text from standard input.
    TryGuardrails {
        #[arg(long)]
        tenant: String,
    },
}
