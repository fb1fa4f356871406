//! Workers of other machines.

use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Where they register; `None`: nowhere.
    pub addr: Option<SocketAddr>,
    /// Certificate of this pool, its key, and the authority of all workers, as PEM.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// Where workers register, and the three files.
#[derive(Clone, Copy, Debug)]
pub struct PoolPort<'a> {
    pub addr: SocketAddr,
    pub cert: &'a std::path::Path,
    pub key: &'a std::path::Path,
    pub ca: &'a std::path::Path,
}

impl Pool {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.addr.is_some() && self.port().is_none() {
            wrong.push("`pool.addr`: needs `pool.cert_file`, `pool.key_file` and `pool.ca_file`; `kontor certificates` makes them".into());
        }
    }

    /// All of it, if workers may register.
    #[must_use]
    pub fn port(&self) -> Option<PoolPort<'_>> {
        let (cert, key, ca) = (self.cert_file.as_deref()?, self.key_file.as_deref()?, self.ca_file.as_deref()?);
        Some(PoolPort { addr: self.addr?, cert, key, ca })
    }
}
