//! Where the master keys lie: in a file, beside the database and never in it.

use super::files;
use crate::config::Config;
use domain::secret::Secret;
use identity::sealing::{KeyKeeper, MasterKeys};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// The file below the data folder, unless another one is configured.
const FILE: &str = "master.key";

/// See the module.
#[derive(Clone, Debug)]
pub struct MasterKeyFile {
    path: PathBuf,
    /// Somebody put it there for all nodes: a node that misses it must not make one of its own.
    given: bool,
}

impl MasterKeyFile {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let given = config.secrets.master_key_file.clone();
        Self { given: given.is_some(), path: given.unwrap_or_else(|| config.data_dir.join(FILE)) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fault(&self, kind: ErrorKind, what: &str) -> io::Error {
        io::Error::new(kind, format!("the master key file {}: {what}", self.path.display()))
    }
}

impl KeyKeeper for MasterKeyFile {
    fn read(&self) -> io::Result<Option<MasterKeys>> {
        match fs::read_to_string(&self.path).map(Secret::new) {
            Ok(text) => MasterKeys::parse(text.reveal()).map(Some).map_err(|what| self.fault(ErrorKind::InvalidData, &what)),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.given => Ok(None),
            Err(error) => Err(self.fault(error.kind(), &error.to_string())),
        }
    }

    fn write(&self, keys: &MasterKeys) -> io::Result<()> {
        files::write_bytes(&self.path, keys.text().reveal().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyKeeper, MasterKeyFile, MasterKeys};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_for_its_owner_only_and_says_what_is_wrong_without_its_text() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = MasterKeyFile { path: folder.path().join("deeper/master.key"), given: false };
        assert!(file.read()?.is_none());
        let keys = MasterKeys::random();
        file.write(&keys)?;
        assert_eq!(file.read()?.map(|read| read.id().to_owned()).as_deref(), Some(keys.id()));
        assert_eq!(std::fs::metadata(file.path())?.permissions().mode() & 0o777, 0o600);
        std::fs::write(file.path(), "correct horse battery")?;
        let error = file.read().expect_err("no key").to_string();
        assert!(error.contains("master.key") && !error.contains("horse"), "{error}");
        Ok(())
    }

    #[test]
    fn one_that_was_given_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = MasterKeyFile { path: folder.path().join("elsewhere"), given: true };
        let error = file.read().expect_err("missing").to_string();
        assert!(error.contains("elsewhere"), "If you are here because this failed: nodes would seal with different keys. {error}");
    }
}
