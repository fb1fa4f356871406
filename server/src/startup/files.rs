//! Files in the data folder that hold secrets: readable by their owner only, never half written.

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Reads a JSON file; `None` if there is none.
///
/// # Errors
/// The file cannot be read or does not hold what it should.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
    }
}

/// Writes a JSON file with mode 600: to a new file beside it first, then renamed over it.
///
/// # Errors
/// The folder cannot be written.
pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_bytes(path, &text)
}

/// The same for any file.
///
/// # Errors
/// The folder cannot be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let attempt = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // What comes after this may rely on the file, so its name must survive a power cut as well.
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    attempt().map_err(|error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

/// Every user of the machine may read it. False for what does not exist.
#[must_use]
pub fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::{is_open_to_all, read, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_anybody_may_read_is_told_of() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("secret");
        assert!(!is_open_to_all(&path), "there is none");
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            std::fs::write(&path, "text")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            assert_eq!(is_open_to_all(&path), open, "{mode:o}");
        }
        Ok(())
    }

    #[test]
    fn secrets_are_for_their_owner_only() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deeper/secret.json");
        assert_eq!(read::<String>(&path)?, None);
        write(&path, &"text")?;
        assert_eq!(read::<String>(&path)?.as_deref(), Some("text"));
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "If you are here because this failed: other users of the machine could read a password.");
        Ok(())
    }
}
