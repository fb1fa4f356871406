//! The command line: names and help, nothing else.

pub mod audit;
pub mod cache;
pub mod guardrails;
pub mod money;
pub mod upstreams;

use audit::ExportAuditArgs;
use cache::CacheCommand;
use clap::{Args, Parser, Subcommand};
use contract::key::Scope;
use domain::DataClass;
use guardrails::GuardrailsCommand;
use money::MoneyCommand;
use std::path::PathBuf;
use upstreams::UpstreamsCommand;

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

#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The GGUF file.
    #[arg(long)]
    pub model: PathBuf,
    /// The model's name in requests.
    #[arg(long)]
    pub model_id: String,
    /// The pool that it belongs to, on another machine: host and port.
    #[arg(long, requires_all = ["name", "cert_file", "key_file", "ca_file"])]
    pub join: Option<String>,
    /// With --join: the name in its certificate.
    #[arg(long)]
    pub name: Option<String>,
    /// With --join: host and port where the pool reaches it; default: where it listens.
    #[arg(long)]
    pub advertise: Option<String>,
    /// With --join: its certificate, as PEM.
    #[arg(long)]
    pub cert_file: Option<PathBuf>,
    /// With --join: the key of that.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// With --join: the authority of pool and workers.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// With --join: how long running answers may take to end after SIGTERM.
    #[arg(long, default_value_t = 600)]
    pub drain_seconds: u64,
    /// A further model, as JSON: id, path and optionally pinned, context_length, slots, state_dir, which are then its own, and
    /// gpu_layers, cells, cache_type, flash_attention, by default as the options of the same names. May be given more than
    /// once.
    #[arg(long = "more", value_name = "JSON")]
    pub more: Vec<String>,
    /// With --more: the model of --model never makes room for another.
    #[arg(long)]
    pub pinned: bool,
    /// With --more: memory that the loaded models may take together, in MiB (of the graphics cards, if a model has layers
    /// there); default: no limit.
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// With --memory-mib: how long a model stays loaded at least before it makes room for another; default: 60.
    #[arg(long, value_name = "SECONDS")]
    pub residence_seconds: Option<u64>,
    /// A folder that is the same for all workers of this machine: one after the other loads a model into the same memory.
    #[arg(long)]
    pub lock_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: std::net::SocketAddr,
    /// Tokens of context for one conversation with the model of --model; default: 8192, or what it was trained for if that is
    /// less.
    #[arg(long, value_name = "TOKENS")]
    pub context_length: Option<u32>,
    /// Conversations with the model of --model at the same time, 1 to 64; default: 4.
    #[arg(long)]
    pub slots: Option<u32>,
    /// Threads that compute; default: what the machine has.
    #[arg(long)]
    pub threads: Option<u32>,
    /// Tokens that a model's context holds: running conversations and the prefix cache; default, and 0: two conversations of
    /// full length, four on a graphics card.
    #[arg(long, value_name = "TOKENS")]
    pub cells: Option<u32>,
    /// How keys and values are stored: f16, q8_0 (half the memory) or q4_0 (a quarter); default: f16.
    #[arg(long)]
    pub cache_type: Option<worker::CacheType>,
    /// Compute attention without writing its matrix down: auto, on or off; default: auto, as is best where the model runs.
    #[arg(long)]
    pub flash_attention: Option<worker::FlashAttention>,
    /// Most tokens in one step, at least slots + 16; default: 256.
    #[arg(long, value_name = "TOKENS")]
    pub batch: Option<u32>,
    /// Layers on the graphics cards, the rest on the processor; 99 puts all of a usual model there; default: 0.
    #[arg(long, value_name = "LAYERS")]
    pub gpu_layers: Option<u32>,
    /// Graphics cards to use, by number, e.g. 0,1; default: all.
    #[arg(long, value_delimiter = ',')]
    pub cards: Vec<usize>,
    /// Requests to a model that may wait for a slot, 1 to 4096; default: 64. Beyond that, whoever has fewest waiting takes the
    /// place of the latest one of whoever has most.
    #[arg(long, value_name = "REQUESTS")]
    pub queue_limit: Option<u32>,
    /// Folder where the prefix cache of the model of --model is kept over a restart; default: nowhere.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// With --state-dir: most that is kept there of a model, in MiB; default: 256.
    #[arg(long, value_name = "MIB")]
    pub cache_mib: Option<u64>,
    /// Do not guess tokens ahead where an answer repeats what was said before.
    #[arg(long)]
    pub no_speculation: bool,
    /// Where spans go, as OTLP over HTTP: the whole address; default: what OTEL_EXPORTER_OTLP_ENDPOINT says.
    #[arg(long, value_name = "URL")]
    pub traces: Option<String>,
    /// What to log, as in `log.level`.
    #[arg(long, default_value = "info")]
    pub log: String,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Create an organisation.
    CreateTenant {
        /// Short name, lower-case letters, digits and hyphens.
        #[arg(long)]
        slug: String,
        #[arg(long)]
        name: String,
    },
    /// List all tenants with their weights and the classes of their data.
    ListTenants,
    /// Let a tenant's work count more than that of others where a worker has not enough for all; in force within two seconds.
    SetWeight {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        /// 1 to 100; every tenant has 1 at first. One with 4 gets four times what one with 1 gets while both want more than
        /// there is.
        #[arg(long)]
        weight: u16,
    },
    /// Say how closely a tenant's data is kept, or that of a service account where it is another one; in force within two seconds.
    SetClass {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        /// Only of this service account.
        #[arg(long)]
        account: Option<String>,
        /// public, internal (what a tenant has at first), confidential or restricted: it goes only to whom may see it.
        #[arg(long, value_parser = class, required_unless_present = "inherit")]
        class: Option<DataClass>,
        /// The account's is its tenant's again.
        #[arg(long, requires = "account", conflicts_with = "class")]
        inherit: bool,
    },
    /// Create a person; without --password-stdin a random password is printed once.
    CreateUser {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        #[arg(long)]
        email: String,
        #[arg(long, default_value = "")]
        name: String,
        /// May be given more than once.
        #[arg(long = "role", value_enum, default_values = ["user"])]
        roles: Vec<RoleArg>,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List people with their tenants and roles.
    ListUsers {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Set a person's password and end all their sessions.
    SetPassword {
        #[arg(long)]
        email: String,
        /// Read the password from standard input instead of making a random one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Put a generated long chat into a person's history, to try out how the interface copes.
    SeedLongChat {
        #[arg(long)]
        email: String,
        #[arg(long, default_value_t = 1000)]
        messages: u32,
        /// Text of all messages together.
        #[arg(long, default_value_t = 500_000)]
        bytes: u32,
    },
    /// Sums of a person's ledger.
    Ledger {
        #[arg(long)]
        email: String,
    },
    /// Create a service account: a program that uses models.
    CreateServiceAccount {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        #[arg(long)]
        name: String,
        /// What it is for, in words.
        #[arg(long)]
        purpose: String,
        #[arg(long, default_value = "")]
        team: String,
        #[arg(long, default_value = "")]
        cost_center: String,
        /// Who answers for it: the e-mail of a person of the tenant.
        #[arg(long, value_name = "EMAIL")]
        owner: Option<String>,
        /// Only this model; may be given more than once.
        #[arg(long = "model")]
        models: Vec<String>,
        /// How closely its data is kept: public, internal, confidential or restricted; default: as its tenant's.
        #[arg(long, value_parser = class)]
        class: Option<DataClass>,
        /// Ends after so many days.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List a tenant's service accounts with their keys.
    ListServiceAccounts {
        #[arg(long)]
        tenant: String,
    },
    /// Close a service account with all its keys.
    DisableServiceAccount {
        #[arg(long)]
        tenant: String,
        #[arg(long)]
        name: String,
        /// Open it again instead.
        #[arg(long)]
        undo: bool,
    },
    /// Delete a service account for good, with its keys, chats, responses, files and batches. What it used stays in the ledger.
    DeleteServiceAccount {
        #[arg(long)]
        tenant: String,
        /// The service account's name.
        #[arg(long)]
        account: String,
        /// It is meant: nothing brings it back.
        #[arg(long)]
        yes: bool,
    },
    /// Make a key for a service account; it is printed once.
    CreateKey {
        #[arg(long)]
        tenant: String,
        /// The service account's name.
        #[arg(long)]
        account: String,
        /// What the key is called, to tell it from others.
        #[arg(long, default_value = "")]
        name: String,
        /// What it opens; may be given more than once: inference (everything under /v1), chat (chats that the service account
        /// owns, under /ui) or usage (what the account used, under /ui).
        #[arg(long = "scope", value_parser = scope, default_value = "inference")]
        scopes: Vec<Scope>,
        /// Only this model; may be given more than once.
        #[arg(long = "model")]
        models: Vec<String>,
        /// Only from this network, like 10.1.0.0/16; may be given more than once.
        #[arg(long = "network")]
        networks: Vec<String>,
        /// Ends after so many days.
        #[arg(long)]
        days: Option<u32>,
    },
    /// Close a key everywhere within two seconds.
    DisableKey {
        #[arg(long)]
        id: contract::ids::ApiKeyId,
        /// Open it again instead.
        #[arg(long)]
        undo: bool,
    },
    /// Make a successor for a key, with the same rights; it is printed once.
    RotateKey {
        #[arg(long)]
        id: contract::ids::ApiKeyId,
        /// Hours that the old key goes on.
        #[arg(long, default_value_t = 24)]
        overlap_hours: u32,
    },
    #[command(flatten)]
    Money(MoneyCommand),
    #[command(flatten)]
    Guardrails(GuardrailsCommand),
    #[command(flatten)]
    Cache(CacheCommand),
    #[command(flatten)]
    Upstreams(UpstreamsCommand),
    /// Compare the ledger's rows of a day with what processes settled by their own count; fails if they differ.
    Reconcile {
        /// A day that is over, YYYY-MM-DD (UTC); default: yesterday.
        #[arg(long, value_name = "DAY")]
        day: Option<String>,
    },
    /// Prove that nobody changed the audit trail.
    VerifyAudit {
        /// A seal that was kept elsewhere, as NUMBER:HASH; it must be in the chain.
        #[arg(long, value_name = "SEAL")]
        expect: Option<String>,
    },
    /// Print the audit trail, or send it to a collector of syslog, one event on each line.
    ExportAudit(ExportAuditArgs),
    /// Print what a tenant used and what it cost, as CSV.
    ExportCharges {
        #[arg(long)]
        tenant: String,
        /// First day, YYYY-MM-DD (UTC).
        #[arg(long, value_name = "DAY")]
        from: String,
        /// Last day.
        #[arg(long, value_name = "DAY")]
        to: String,
        /// The columns of FOCUS 1.2 instead of Kontor's own.
        #[arg(long)]
        focus: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleArg {
    User,
    ServiceAdmin,
    SystemAdmin,
}

impl From<RoleArg> for contract::account::Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::User => Self::User,
            RoleArg::ServiceAdmin => Self::ServiceAdmin,
            RoleArg::SystemAdmin => Self::SystemAdmin,
        }
    }
}

fn class(text: &str) -> Result<DataClass, String> {
    money::named(DataClass::ALL, DataClass::name, text)
}

fn scope(text: &str) -> Result<Scope, String> {
    money::named(Scope::ALL, Scope::name, text)
}

#[cfg(test)]
mod tests {
    use super::{AdminCommand, Cli, Command};
    use clap::Parser;
    use contract::key::Scope;
    use domain::DataClass;

    #[test]
    fn a_class_is_given_or_inherited() {
        let parsed = |more: &[&str]| {
            let line = ["kontor", "admin", "set-class", "--tenant", "a"];
            match Cli::try_parse_from(line.iter().chain(more)).ok()?.command? {
                Command::Admin { command: AdminCommand::SetClass { account, class, inherit, .. }, .. } => Some((account, class, inherit)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parsed(&["--class", "confidential"]), Some((None, Some(DataClass::Confidential), false)));
        assert_eq!(parsed(&["--account", "b", "--inherit"]), Some((Some("b".into()), None, true)));
        for wrong in [&["--class", "secret"][..], &[], &["--inherit"], &["--account", "b", "--inherit", "--class", "public"]] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }

    fn scopes(more: &[&str]) -> Result<Vec<Scope>, String> {
        let line = ["kontor", "admin", "create-key", "--tenant", "a", "--account", "b"];
        let parsed = Cli::try_parse_from(line.iter().chain(more)).map_err(|error| error.to_string())?;
        match parsed.command {
            Some(Command::Admin { command: AdminCommand::CreateKey { scopes, .. }, .. }) => Ok(scopes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_opens_the_models_unless_something_else_is_said() {
        assert_eq!(scopes(&[]), Ok(vec![Scope::Inference]));
        assert_eq!(scopes(&["--scope", "chat", "--scope", "usage"]), Ok(vec![Scope::Chat, Scope::Usage]));
        let wrong = scopes(&["--scope", "everything"]).expect_err("no scope");
        assert!(wrong.contains("possible values: inference, chat, usage"), "{wrong}");
    }
}
