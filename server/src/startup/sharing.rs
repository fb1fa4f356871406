//! Several processes of one installation (`serve`, `jobs`, `admin …`) share the embedded Postgres; the last
//! one to leave stops it. Who uses it is known by file locks, which the kernel gives back even for a process
//! that was killed.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

/// This process uses the server.
pub struct Sharing {
    file: File,
}

/// Nobody else uses the server, and nobody can begin to as long as this lives.
pub struct Alone {
    _file: File,
}

impl Sharing {
    /// Joins the users; waits while the last one is just stopping the server.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub async fn join(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = File::options().create(true).append(true).open(folder.join("users.lock"))?;
        tokio::task::spawn_blocking(move || file.lock_shared().map(|()| Self { file })).await?
    }

    /// Leaves the users; `Some` for the last one.
    ///
    /// # Errors
    /// The lock cannot be asked for.
    pub fn leave(self) -> io::Result<Option<Alone>> {
        self.file.unlock()?;
        match self.file.try_lock() {
            Ok(()) => Ok(Some(Alone { _file: self.file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// This process is the only `kontor serve` of its data folder, for as long as this lives.
pub struct SoleServer {
    _file: File,
}

impl SoleServer {
    /// `None` if another `kontor serve` already works with this data folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn claim(data_dir: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).append(true).open(data_dir.join("serve.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sharing, SoleServer};

    #[test]
    fn only_one_server_is_the_sole_one() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = SoleServer::claim(folder.path())?;
        assert!(first.is_some());
        assert!(
            SoleServer::claim(folder.path())?.is_none(),
            "If you are here because this failed: a second `kontor serve` would settle what the first one still generates."
        );
        drop(first);
        assert!(SoleServer::claim(folder.path())?.is_some());
        Ok(())
    }

    #[tokio::test]
    async fn only_the_last_one_is_alone() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let serve = Sharing::join(folder.path()).await?;
        let admin = Sharing::join(folder.path()).await?;
        assert!(
            admin.leave()?.is_none(),
            "If you are here because this failed: `kontor admin` would stop the database under a running `kontor serve`."
        );
        assert!(serve.leave()?.is_some());
        Ok(())
    }
}
