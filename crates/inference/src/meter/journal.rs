//! Entries of the ledger on this machine's disk, until the database has them.
//!
//! A process appends to files of its own, which it keeps locked while it lives. A file is emptied or removed once everything in
//! it is in the ledger. What is left of a file whose lock is gone belongs to a process that died, and to whoever finds it.
//! Nothing is synchronised to the disk: a process that is killed loses nothing, a machine that loses its power at most what it
//! had not written yet.

use contract::ids::NodeId;
use domain::{Error, Result};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    mem,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::ledger::Entry;

/// Bytes after which another file is begun, so that one that cannot be emptied in the midst of work does not grow for ever.
const FULL: u64 = 1 << 20;
const EXTENSION: &str = "jsonl";
/// Locked by whoever looks for what others left behind.
const FINDER: &str = "finder.lock";
/// An empty file may just have been made by somebody who is about to lock it.
const ABANDONED: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    node: NodeId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    active: Part,
    full: Vec<Part>,
}

/// A file of the journal.
#[derive(Debug)]
struct Part {
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Entries that are not in the ledger yet.
    outstanding: usize,
}

/// Where an entry is; whoever has written it into the ledger gives it back to [`Journal::done`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

/// A file that somebody left behind.
#[derive(Debug)]
pub(super) struct Orphan {
    pub node: NodeId,
    pub entries: Vec<Entry>,
    number: u64,
    path: PathBuf,
    /// Locked until this is dropped.
    _file: File,
    /// Some of it cannot be read.
    damaged: bool,
}

/// All that was found. Nobody else finds anything as long as this is kept.
#[derive(Debug)]
pub(super) struct Orphans {
    pub parts: Vec<Orphan>,
    _finder: File,
}

impl Journal {
    /// # Errors
    /// The folder or the file cannot be made.
    pub(super) fn open(folder: &Path, node: NodeId) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let active = Part::create(folder, node, 0)?;
        Ok(Self { folder: folder.to_owned(), node, state: Mutex::new(State { active, full: Vec::new() }) })
    }

    /// # Errors
    /// It is not on the disk.
    pub(super) fn append(&self, entry: &Entry) -> io::Result<Place> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut state = self.lock();
        if state.active.bytes >= FULL {
            let next = Part::create(&self.folder, self.node, state.active.number + 1)?;
            let full = mem::replace(&mut state.active, next);
            state.full.push(full);
        }
        state.active.append(&line)?;
        Ok(Place(state.active.number))
    }

    /// An entry is in the ledger.
    ///
    /// # Errors
    /// The file can neither be emptied nor removed; what is in it is written once more by whoever finds it, which does no harm.
    pub(super) fn done(&self, Place(number): Place) -> io::Result<()> {
        let mut state = self.lock();
        if state.active.number == number {
            return state.active.done();
        }
        let Some(at) = state.full.iter().position(|part| part.number == number) else { return Ok(()) };
        state.full[at].outstanding -= 1;
        if state.full[at].outstanding > 0 {
            return Ok(());
        }
        let part = state.full.swap_remove(at);
        fs::remove_file(part.path)
    }

    /// Whose files these are.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Keeps an entry that can never be written, for the operator, in a file that nobody reads.
    ///
    /// # Errors
    /// It is not on the disk.
    pub(super) fn reject(&self, node: NodeId, entry: &Entry, why: &str) -> Result<()> {
        let path = self.folder.join(format!("{node}.rejected"));
        tracing::error!(usage = %entry.id(), why, path = %path.display(), "an entry of the ledger can never be written and was set aside");
        let line = serde_json::json!({ "entry": entry, "why": why });
        let mut file = private().append(true).create(true).open(path).map_err(Error::internal)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(Error::internal)
    }

    /// What processes left behind that are gone, the parts of each in their order. Each is its finder's as long as it is kept.
    ///
    /// # Errors
    /// The folder cannot be read.
    ///
    /// One finder at a time: of two, one could have the ends of what the other one is still to open.
    pub(super) fn orphans(&self) -> io::Result<Orphans> {
        let finder = private().write(true).create(true).truncate(false).open(self.folder.join(FINDER))?;
        match finder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Orphans { parts: Vec::new(), _finder: finder }),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (mut orphans, mut unread) = (Vec::new(), Vec::new());
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if let Some((node, number)) = parsed(&path) {
                match Orphan::find(&path, node, number) {
                    Ok(found) => orphans.extend(found),
                    // Somebody else was first.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::error!(%error, path = %path.display(), "a journal of the ledger cannot be read");
                        unread.push((node, number));
                    }
                }
            }
        }
        // What was opened in a part that cannot be read must not be ended by a later one.
        orphans.retain(|orphan: &Orphan| !unread.iter().any(|(node, number)| *node == orphan.node && *number < orphan.number));
        orphans.sort_by_key(|orphan| (orphan.node, orphan.number));
        Ok(Orphans { parts: orphans, _finder: finder })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.active.outstanding == 0
            && let Err(error) = fs::remove_file(&state.active.path)
        {
            tracing::warn!(%error, path = %state.active.path.display(), "an empty journal could not be removed");
        }
    }
}

impl Part {
    fn create(folder: &Path, node: NodeId, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{node}.{number}.{EXTENSION}"));
        let file = private().create_new(true).append(true).open(&path)?;
        file.lock()?;
        Ok(Self { number, path, file, bytes: 0, outstanding: 0 })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line) {
            // Half a line would spoil the next one, which then begins another file.
            if self.file.set_len(self.bytes).is_err() {
                self.bytes = FULL;
            }
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.outstanding += 1;
        Ok(())
    }

    fn done(&mut self) -> io::Result<()> {
        self.outstanding -= 1;
        if self.outstanding == 0 {
            self.file.set_len(0)?;
            self.bytes = 0;
        }
        Ok(())
    }
}

/// Nobody else may read it: it says who used what.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whose file it is, and its number.
fn parsed(path: &Path) -> Option<(NodeId, u64)> {
    let mut parts = path.file_name()?.to_str()?.split('.');
    let (node, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.next() == Some(EXTENSION) && parts.next().is_none()).then_some((node, number))
}

impl Orphan {
    /// `None`: its process lives, or nothing is in it.
    fn find(path: &Path, node: NodeId, number: u64) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        if text.is_empty() {
            if file.metadata()?.modified()?.elapsed().is_ok_and(|age| age >= ABANDONED) {
                fs::remove_file(path)?;
            }
            return Ok(None);
        }
        let (mut entries, mut damaged) = (Vec::new(), false);
        // What has no line end was never acknowledged.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                Err(_) => damaged = true,
            }
        }
        Ok(Some(Self { node, entries, number, path: path.to_owned(), _file: file, damaged }))
    }

    /// All of it that can be read is in the ledger.
    ///
    /// # Errors
    /// The file can neither be removed nor renamed.
    pub(super) fn written(self) -> io::Result<()> {
        if !self.damaged {
            return fs::remove_file(self.path);
        }
        let aside = self.path.with_extension("damaged");
        tracing::error!(path = %aside.display(), "a journal of the ledger has lines that cannot be read; the others are in the ledger");
        fs::rename(self.path, aside)
    }
}

#[cfg(test)]
mod tests {
    use super::{FULL, Journal};
    use crate::meter::samples;
    use contract::ids::UsageId;
    use std::{fs, path::Path};
    use store::ledger::Entry;
    use uuid::Uuid;

    fn entry() -> Entry {
        samples::end(UsageId(Uuid::now_v7()))
    }

    fn journal(folder: &Path) -> Journal {
        Journal::open(folder, Uuid::now_v7().into()).expect("a journal")
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).expect("the folder").count()
    }

    #[test]
    fn what_a_process_left_is_found_by_the_next_one_and_by_nobody_while_it_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dead, living) = (journal(folder.path()), journal(folder.path()));
        let left = [entry(), entry()];
        for entry in &left {
            dead.append(entry).expect("appended");
        }
        assert!(living.orphans().expect("read").parts.is_empty(), "it lives");
        // As the kernel does with what a killed process had open.
        drop(dead);
        let mut orphans = living.orphans().expect("read").parts;
        assert_eq!(orphans.len(), 1);
        let found: Vec<UsageId> = orphans[0].entries.iter().map(Entry::id).collect();
        assert_eq!(found, left.map(|entry| entry.id()));
        assert!(living.orphans().expect("read").parts.is_empty(), "it has a finder already");
        orphans.remove(0).written().expect("removed");
        assert_eq!(files(folder.path()), 2, "its own, and the finder's lock");
    }

    #[test]
    fn a_file_is_emptied_or_removed_once_all_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(folder.path());
        let first = journal.append(&entry()).expect("appended");
        let mut places = vec![journal.append(&entry()).expect("appended")];
        journal.done(first).expect("done");
        let mut bytes = 0;
        while bytes <= 2 * FULL {
            let entry = entry();
            bytes += serde_json::to_vec(&entry).expect("JSON").len() as u64;
            places.push(journal.append(&entry).expect("appended"));
        }
        assert_eq!(files(folder.path()), 3);
        places.into_iter().for_each(|place| journal.done(place).expect("done"));
        assert_eq!(files(folder.path()), 1);
        let left = fs::read_dir(folder.path()).expect("the folder").next().expect("a file").expect("a file");
        assert_eq!(left.metadata().expect("its size").len(), 0);
        drop(journal);
        assert_eq!(files(folder.path()), 0, "nothing is left of a process that ended well");
    }

    #[test]
    fn half_a_line_was_never_acknowledged_and_what_cannot_be_read_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(folder.path());
        let (good, node) = (entry(), Uuid::now_v7());
        let line = serde_json::to_string(&good).expect("JSON");
        fs::write(folder.path().join(format!("{node}.0.jsonl")), format!("{line}\n{{\"id\":")).expect("written");
        let other = Uuid::now_v7();
        fs::write(folder.path().join(format!("{other}.0.jsonl")), format!("rubbish\n{line}\n")).expect("written");
        let orphans = journal.orphans().expect("read");
        assert!(journal.orphans().expect("read").parts.is_empty(), "one finder at a time");
        assert_eq!(orphans.parts.len(), 2);
        for orphan in orphans.parts {
            assert_eq!(orphan.entries.iter().map(Entry::id).collect::<Vec<_>>(), [good.id()]);
            orphan.written().expect("put away");
        }
        assert!(folder.path().join(format!("{other}.0.damaged")).exists());
        assert!(!folder.path().join(format!("{node}.0.jsonl")).exists());
    }
}
