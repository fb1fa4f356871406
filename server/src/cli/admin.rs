//! Tenants, people and programs, from the machine itself.

use super::{
    audit::ExportAuditArgs,
    cache::CacheCommand,
    guardrails::GuardrailsCommand,
    money::{self, MoneyCommand},
    upstreams::UpstreamsCommand,
};
use clap::Subcommand;
use contract::key::Scope;
use domain::DataClass;

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
    use super::AdminCommand;
    use crate::cli::{Cli, Command};
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
