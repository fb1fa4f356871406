//! One load at a time among the worker processes of a machine.
//!
//! Each process measures what is free before it loads and what its model took after. Two that did so at once would both
//! count on the same memory and take each other's model for their own. So there is a file for each memory, which
//! whoever loads has locked; the system gives the lock back when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Nobody waits longer than this for one other process. Its load may hang for ever on a file system that does not answer;
/// what is free is still looked at then.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Longest note of a holder that is read.
const NOTE: u64 = 256;

/// The right to load, of this process.
pub struct Turn {
    /// Of each memory, always in this order: who has the first of two waits for nobody who has the second and wants it.
    paths: Vec<PathBuf>,
    held: Vec<File>,
    waits: Option<Waits>,
    /// Said once that there is no locking.
    complained: bool,
}

struct Waits {
    holder: String,
    since: Instant,
}

impl Turn {
    /// `folder` is the same for all processes of the machine that load into these memories; `None`: there are no others.
    pub fn new(folder: Option<&Path>, memories: &[String]) -> Self {
        let file = |folder: &Path, memory: &String| folder.join(format!("{}.lock", memory.replace(' ', "-")));
        let paths: Vec<PathBuf> = folder.map(|folder| memories.iter().map(|memory| file(folder, memory)).collect()).unwrap_or_default();
        Self { paths, held: Vec::new(), waits: None, complained: false }
    }

    /// Takes the turn for loading this model.
    ///
    /// # Errors
    /// Who has it, for people: try again soon.
    pub fn take(&mut self, model: &str, now: Instant) -> Result<(), String> {
        self.held.clear();
        for path in &self.paths {
            match lock(path, model) {
                Ok(Some(file)) => self.held.push(file),
                Ok(None) => {
                    let holder = holder(path);
                    if !waited(&mut self.waits, model, &holder, now) {
                        self.held.clear();
                        return Err(holder);
                    }
                }
                Err(error) if !self.complained => {
                    tracing::warn!(path = %path.display(), %error, "other processes may load at the same time: the file cannot be locked");
                    self.complained = true;
                }
                Err(_) => {}
            }
        }
        self.waits = None;
        Ok(())
    }

    /// The model is here and measured, or it is not loaded after all.
    pub fn give_back(&mut self) {
        self.held.clear();
    }
}

/// Whether that was long enough for this holder.
fn waited(waits: &mut Option<Waits>, model: &str, holder: &str, now: Instant) -> bool {
    match waits {
        Some(waits) if waits.holder == holder => {
            let enough = now.duration_since(waits.since) >= PATIENCE;
            if enough {
                tracing::warn!(model, holder, waited = ?PATIENCE, "another process loads for too long; this model does not wait for it any more");
            }
            enough
        }
        _ => {
            tracing::info!(model, holder, "a model waits until another process has loaded its own");
            *waits = Some(Waits { holder: holder.to_owned(), since: now });
            false
        }
    }
}

/// `None`: another process has it.
fn lock(path: &Path, model: &str) -> std::io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "process {}, which loads {model}", std::process::id())?;
    Ok(Some(file))
}

fn holder(path: &Path) -> String {
    let mut note = Vec::new();
    let read = File::open(path).and_then(|file| file.take(NOTE).read_to_end(&mut note));
    match read {
        Ok(length) if length > 0 => String::from_utf8_lossy(&note).into_owned(),
        // It has just taken it, or has taken its file away.
        Ok(_) | Err(_) => "another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_others_know_for_whom_they_wait() {
        let folder = tempfile::tempdir().unwrap();
        let turn = || Turn::new(Some(&folder.path().join("loads")), &["processor".into()]);
        let (mut first, mut second, now) = (turn(), turn(), Instant::now());
        assert_eq!(first.take("a", now), Ok(()));
        let refused = second.take("b", now);
        assert_eq!(refused, Err(format!("process {}, which loads a", std::process::id())));
        first.give_back();
        assert_eq!(second.take("b", now), Ok(()));
        assert!(first.take("a", now).is_err_and(|holder| holder.ends_with("which loads b")));
        // As when its process ends.
        drop(second);
        assert_eq!(first.take("a", now), Ok(()));
    }

    #[test]
    fn each_card_has_its_own_and_who_needs_two_holds_none_while_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let turn = |cards: &[&str]| Turn::new(Some(folder.path()), &cards.iter().map(|card| (*card).to_owned()).collect::<Vec<_>>());
        let (mut both, mut zero, mut one, now) = (turn(&["card 0", "card 1"]), turn(&["card 0"]), turn(&["card 1"]), Instant::now());
        assert_eq!(one.take("b", now), Ok(()));
        assert!(both.take("a", now).is_err());
        assert_eq!(zero.take("c", now), Ok(()), "nobody loads onto this card");
        assert!(folder.path().join("card-0.lock").exists());
        one.give_back();
        assert!(both.take("a", now).is_err_and(|holder| holder.ends_with("which loads c")));
        zero.give_back();
        assert_eq!(both.take("a", now), Ok(()));
        assert!(zero.take("c", now).is_err() && one.take("b", now).is_err());
    }

    #[test]
    fn nobody_waits_for_ever_for_one_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let turn = || Turn::new(Some(folder.path()), &["processor".into()]);
        let (mut hangs, mut waits, now) = (turn(), turn(), Instant::now());
        hangs.take("a", now).unwrap();
        assert!(waits.take("b", now).is_err());
        assert!(waits.take("b", now + PATIENCE / 2).is_err());
        // Another one: the time begins anew.
        hangs.take("c", now).unwrap();
        assert!(waits.take("b", now + PATIENCE).is_err());
        assert_eq!(waits.take("b", now + 2 * PATIENCE), Ok(()));
    }

    #[test]
    fn without_a_folder_or_where_it_cannot_be_made_models_are_loaded_nevertheless() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = Instant::now();
        assert_eq!(Turn::new(None, &["processor".into()]).take("a", now), Ok(()));
        assert_eq!(Turn::new(Some(&file.path().join("no folder")), &["processor".into()]).take("a", now), Ok(()));
    }
}
