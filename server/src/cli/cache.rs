//! Commands about the response cache: names and help.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Let a tenant's programs have answers told again; in force within two seconds.
    SetResponseCache {
        /// The tenant's short name.
        #[arg(long)]
        tenant: String,
        /// How old an answer may be.
        #[arg(long, default_value_t = 3600)]
        ttl_seconds: u32,
        /// What the tenant's answers may take on each node; never more than its part of response_cache.memory_mib.
        #[arg(long, default_value_t = 16)]
        memory_mib: u32,
    },
    /// Print a tenant's terms.
    ShowResponseCache {
        #[arg(long)]
        tenant: String,
    },
    /// Keep nothing of a tenant any more.
    RemoveResponseCache {
        #[arg(long)]
        tenant: String,
    },
}
