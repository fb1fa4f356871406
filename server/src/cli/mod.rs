//! The command line: names and help, nothing else.

mod admin;
pub mod audit;
pub mod cache;
pub mod guardrails;
pub mod money;
pub mod upstreams;
mod worker;

pub use self::worker::WorkerArgs;
pub use admin::{AdminCommand, RoleArg};

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Self-hosted, multi-tenant generative AI: chat with your own models.
#[derive(Debug, Parser)]
#[command(name = "kontor", version, about)]
pub struct Cli {
    /// Configuration file; default: kontor.toml of the working directory, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Without one: `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Web interface and API; starts the embedded Postgres and the workers if none are configured.
    Serve {
        /// Leave the background jobs to a `kontor jobs` process.
        #[arg(long)]
        no_jobs: bool,
    },
    /// One inference worker. Without --join its token is the first line on standard input, and it ends when that
    /// closes.
    Worker(Box<WorkerArgs>),
    /// Make certificates with which workers of other machines and this pool know each other.
    Certificates {
        /// Where they are put; what is there stays, above all the authority.
        #[arg(long)]
        out: PathBuf,
        /// Name of a worker; lower-case letters, digits and hyphens. May be given more than once.
        #[arg(long = "worker")]
        workers: Vec<String>,
    },
    /// Background jobs alone.
    Jobs,
    /// Bring the database's schema up to date.
    Migrate,
    /// Load the configuration, connect to everything and report all that is wrong at once.
    Check {
        /// Print the default configuration with comments and do nothing else.
        #[arg(long)]
        print_config: bool,
    },
    /// Administer tenants and people from the machine itself.
    Admin {
        /// Print JSON.
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: AdminCommand,
    },
}
