//! Files in the data folder that hold secrets: readable by their owner only, never half written.

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
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

/// Writes a JSON file: to a new file beside it first, then renamed over it. It is its owner's alone (mode 600), and the owner of the
/// folder is its owner; in the place of another one it has the owner and at most the mode of that one.
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
/// The folder cannot be written, or the file that is there belongs to somebody to whom it cannot be given.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let attempt = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        remove(&new)?;
        // What somebody else puts there meanwhile is not followed.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        hand_over(&file, path)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // What comes after this may rely on the file, so its name must survive a power cut as well.
        File::open(folder_of(path))?.sync_all()
    };
    attempt().map_err(|error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What an attempt that broke off left there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a new file to whom the one in its place belongs, or the folder if there is none: who runs a command once must not take
/// a file away from the service that reads it.
fn hand_over(file: &File, path: &Path) -> io::Result<()> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(old) => {
            let mode = old.mode() & 0o640;
            let owner = Some(old.uid()).filter(|owner| *owner != own.uid());
            let group = Some(old.gid()).filter(|group| *group != own.gid() && (owner.is_some() || mode & 0o040 != 0));
            if owner.is_some() || group.is_some() {
                fchown(file, owner, group)?;
            }
            // Not before: it would be another group that reads it.
            file.set_permissions(Permissions::from_mode(mode))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = fs::metadata(folder_of(path))?;
            if folder.uid() == own.uid() {
                return Ok(());
            }
            match fchown(file, Some(folder.uid()), Some(folder.gid())) {
                // Who may not give files away is the service itself, in a folder that it may write for another reason.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
                outcome => outcome,
            }
        }
        Err(error) => Err(error),
    }
}

/// Every user of the machine may read it. False for what does not exist.
#[must_use]
pub fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::{is_open_to_all, read, write};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

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

    #[test]
    fn what_was_left_or_planted_beside_it_is_not_followed() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, beside, victim) = (folder.path().join("master.key"), folder.path().join("master.new"), folder.path().join("victim"));
        std::fs::write(&victim, "precious")?;
        symlink(&victim, &beside)?;
        write(&path, &"text")?;
        assert_eq!(std::fs::read_to_string(&victim)?, "precious", "If you are here because this failed: anybody's file is overwritten.");
        assert!(!std::fs::symlink_metadata(&path)?.is_symlink());
        std::fs::write(&beside, "half of it")?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644))?;
        write(&path, &"other")?;
        assert_eq!(read::<String>(&path)?.as_deref(), Some("other"));
        assert!(!beside.exists() && !is_open_to_all(&path));
        Ok(())
    }

    #[test]
    fn a_file_stays_with_whom_it_belongs_to() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("master.key");
        for (mode, kept) in [(0o640, 0o640), (0o644, 0o640), (0o660, 0o640), (0o600, 0o600), (0o400, 0o400)] {
            std::fs::write(&path, "")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            write(&path, &"text")?;
            assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, kept, "{mode:o}");
            std::fs::remove_file(&path)?;
        }
        // Only who may give files away can try the rest.
        if chown(folder.path(), Some(4711), Some(4712)).is_ok() {
            for file in ["master.key", "other.key"] {
                let path = folder.path().join(file);
                for _ in 0..2 {
                    write(&path, &"text")?;
                    let made = std::fs::metadata(&path)?;
                    assert_eq!(
                        (made.uid(), made.gid()),
                        (4711, 4712),
                        "If you are here because this failed: a service cannot read its key."
                    );
                }
            }
        }
        Ok(())
    }
}
