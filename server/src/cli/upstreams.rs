//! Commands about keys of upstreams: names and help.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum UpstreamsCommand {
    /// Keep an upstream's key in the database, sealed. The key is the first line on standard input; it is in force within two
    /// seconds.
    SetUpstreamKey {
        /// The upstream's name in the configuration.
        name: String,
    },
    /// List which upstreams have a key in the database, since when and by whom; never the key.
    ListUpstreamKeys,
    /// Forget an upstream's key: it is asked with the configured one again.
    RemoveUpstreamKey {
        /// The upstream's name.
        name: String,
    },
    /// Seal all keys of upstreams anew with a new master key, and remove the old one.
    RotateMasterKey {
        /// Make no new master key and leave the file as it is: seal with the first one that it has.
        #[arg(long)]
        reseal_only: bool,
    },
}
