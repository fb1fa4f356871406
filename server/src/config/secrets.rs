//! What seals the secrets that the database keeps.

use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The file with the master key; `None`: `master.key` in the data folder, which is made when it is first needed. One that is
    /// configured must be there, since nodes share it.
    pub master_key_file: Option<PathBuf>,
}
