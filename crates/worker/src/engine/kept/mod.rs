//! The prefix cache over a restart: saved when the worker ends or has nothing to do, loaded when it starts.
//!
//! The files hold what people wrote, as numbers; the folder is readable by its owner alone and bounded in size. A save is
//! made of short turns, one file in each, so that whoever asks meanwhile waits for one at most; a sequence that is in a file
//! already keeps it, also where a step that failed has taken the cells. The index is replaced last and what it does not name is removed then, so a worker that is killed at any
//! time finds what was saved before. A mark says that the files are being loaded: those that make llama.cpp end the process
//! do so once, not at every start. Who loads has the mark locked, so that it tells whoever starts beside it nothing bad.

mod step;

use std::fs::{self, TryLockError};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cells::{Cells, Kept as Idle};
use super::context::{Context, flash_attention};
use crate::error::Error;
use crate::model::LLAMA;
use crate::options::ModelOptions;

const INDEX: &str = "index.json";
/// There while what the index names is loaded.
const MARK: &str = "loading";
/// Ends the names of files of cells.
const CELLS: &str = "cells";
/// Ends the names of indices that are being written.
const NEW: &str = "new";
/// Who has not put one in place after so long was killed.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);
/// Shorter beginnings are computed as fast as they are loaded.
const WORTH_KEEPING: usize = 64;
/// Of a model's file so many parts are looked at, of so many bytes.
const PARTS: u64 = 64;
const PART: u64 = 4096;

/// Ends the name of a partition of which nothing is saved. No tenant's name has it.
const TRANSIENT: &str = "\0transient";

/// The partition of a completion of which nothing may be kept.
pub fn transient(partition: &str) -> String {
    format!("{partition}{TRANSIENT}")
}

/// Where the cache of one model is kept.
pub struct Kept {
    folder: PathBuf,
    limit: u64,
    fingerprint: Fingerprint,
    /// As the index has them, the latest first, and behind them what it does not name yet.
    files: Vec<Written>,
    /// Locked while the files are loaded.
    mark: Option<fs::File>,
    /// Bytes that a token takes at most, as far as files have shown.
    per_token: u64,
}

/// A file that is whole.
struct Written {
    entry: Entry,
    tokens: Vec<LlamaToken>,
    /// The index names it.
    indexed: bool,
    /// Its cells were lost with a failed step. Nobody gave them up, so it is kept until somebody has more of it.
    stranded: bool,
}

impl Written {
    /// These tokens of a partition begin with all that is in it.
    fn is_covered_by(&self, partition: &str, tokens: &[LlamaToken]) -> bool {
        self.entry.partition == partition && tokens.starts_with(&self.tokens)
    }
}

/// What must be the same for saved cells to have a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    model_bytes: u64,
    /// Seconds and nanoseconds.
    model_changed: (i64, i64),
    /// See [`sample`].
    model_sample: u64,
    cache_type: String,
    /// What is asked for. Where llama.cpp decides, it depends on where the layers are, and so does how values lie.
    flash_attention: i64,
    gpu_layers: u32,
    cards: Vec<usize>,
    /// Whatever else decides how cells are stored is written down in one of the two.
    llama: String,
    worker: String,
}

impl Fingerprint {
    fn of(options: &ModelOptions) -> io::Result<Self> {
        let file = fs::metadata(&options.path)?;
        Ok(Self {
            model_bytes: file.len(),
            model_changed: (file.mtime(), file.mtime_nsec()),
            model_sample: sample(&options.path, file.len())?,
            cache_type: format!("{:?}", options.cache_type),
            flash_attention: i64::from(flash_attention(options)),
            gpu_layers: options.gpu_layers,
            cards: options.cards.clone(),
            llama: LLAMA.to_owned(),
            worker: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    fingerprint: Fingerprint,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    file: String,
    partition: String,
    tokens: usize,
}

impl Entry {
    /// A file of this folder, whatever was written into the index.
    fn is_ours(&self) -> bool {
        self.file.strip_suffix(CELLS).and_then(|name| name.strip_suffix('.')).is_some_and(|name| Uuid::try_parse(name).is_ok())
    }
}

impl Kept {
    /// `None` if nothing is to be kept.
    pub fn new(options: &ModelOptions) -> io::Result<Option<Self>> {
        let Some(folder) = options.state_dir.clone() else { return Ok(None) };
        let fingerprint = Fingerprint::of(options)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Some(Self { folder, limit: options.state_limit, fingerprint, files: Vec::new(), mark: None, per_token: 0 }))
    }

    /// Has `write` put into a file one of the idle sequences that is in none yet, the latest first, up to the limit; the index
    /// when all are. True if there is more to do.
    pub fn save_next(&mut self, cells: &Cells, write: impl FnOnce(&Path, &Idle<'_>) -> Result<u64, Error>) -> Result<bool, Error> {
        // A worker that takes this one's place, or whose place this one takes, saves into the same folder.
        self.files.retain(|file| self.folder.join(&file.entry.file).exists());
        for file in self.files.iter_mut().filter(|file| file.stranded) {
            file.stranded = !cells.kept().any(|idle| file.is_covered_by(idle.partition, idle.tokens));
        }
        let (wanted, missing) = self.plan(cells);
        let Some(missing) = missing else {
            self.complete(wanted).map_err(|error| failed(&self.folder, &error))?;
            return Ok(false);
        };
        self.let_go(&wanted).map_err(|error| failed(&self.folder, &error))?;
        let file = format!("{}.{CELLS}", Uuid::now_v7().simple());
        let path = self.folder.join(&file);
        // llama.cpp lets others read the files that it makes, as far as the process's mask does. This one is made already.
        self.create(&file).map_err(|error| failed(&self.folder, &error))?;
        // A disk that is full would get fuller with the half of a file each time.
        let bytes = write(&path, &missing).inspect_err(|_| drop(remove(&path)))?;
        let entry = Entry { file, partition: missing.partition.to_owned(), tokens: missing.tokens.len() };
        self.know(entry, missing.tokens.to_vec(), bytes, false);
        Ok(true)
    }

    /// The cells of all sequences were lost with a failed step; what is in files is still right.
    pub fn cells_lost(&mut self) {
        let longer = |file: &Written, other: &Written| other.tokens.len() > file.tokens.len();
        let covers = |file: &Written, other: &Written| longer(file, other) && file.is_covered_by(&other.entry.partition, &other.tokens);
        let stale: Vec<bool> = self.files.iter().map(|file| self.files.iter().any(|other| covers(file, other))).collect();
        for (file, stale) in self.files.iter_mut().zip(stale) {
            file.stranded = !stale;
        }
        // What the index does not name yet was written last.
        self.files.sort_by_key(|file| file.indexed);
    }

    /// What the next index names, as far as it is in files, and the first sequence that is missing there.
    fn plan<'c>(&self, cells: &'c Cells) -> (Vec<Entry>, Option<Idle<'c>>) {
        let (mut wanted, mut missing, mut room) = (Vec::new(), None, self.limit);
        // By what a token takes at most and not by each file's size: so nothing is written again and again in vain.
        let mut fits = |tokens: &[LlamaToken]| {
            let left = room.checked_sub(self.per_token * number(tokens.len()));
            room = left.unwrap_or(room);
            left.is_some()
        };
        for idle in cells.kept().filter(|idle| idle.tokens.len() >= WORTH_KEEPING && !idle.partition.ends_with(TRANSIENT)) {
            if !fits(idle.tokens) {
                continue;
            }
            match self.files.iter().find(|file| file.entry.partition == idle.partition && file.tokens == idle.tokens) {
                Some(file) => wanted.push(file.entry.clone()),
                None => missing = missing.or(Some(idle)),
            }
        }
        // Whoever has computed since then comes first.
        let stranded = self.files.iter().filter(|file| file.stranded && fits(&file.tokens));
        wanted.extend(stranded.map(|file| file.entry.clone()));
        (wanted, missing)
    }

    fn know(&mut self, entry: Entry, tokens: Vec<LlamaToken>, bytes: u64, indexed: bool) {
        self.per_token = self.per_token.max(bytes.div_ceil(number(tokens.len()).max(1)));
        self.files.push(Written { entry, tokens, indexed, stranded: false });
    }

    /// From now on a worker that starts finds these.
    fn complete(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let index = Index { fingerprint: self.fingerprint.clone(), entries };
        self.replace_index(&index)?;
        let place = |file: &Written| index.entries.iter().position(|entry| *entry == file.entry);
        for file in &mut self.files {
            file.indexed = place(file).is_some();
        }
        self.files.retain(|file| file.indexed);
        self.files.sort_by_key(place);
        self.trust()?;
        self.sweep()?;
        let tokens: usize = index.entries.iter().map(|entry| entry.tokens).sum();
        tracing::info!(sequences = index.entries.len(), tokens, "prefix cache saved");
        Ok(())
    }

    /// Another worker may do the same at this moment: the last one's index is the one, and each is whole.
    fn replace_index(&self, index: &Index) -> io::Result<()> {
        let name = format!("{}.{NEW}", Uuid::now_v7().simple());
        let new = self.folder.join(&name);
        let written = self.create(&name).and_then(|file| Ok(serde_json::to_writer(file, index)?));
        written.and_then(|()| fs::rename(&new, self.folder.join(INDEX))).inspect_err(|_| drop(remove(&new)))
    }

    /// Takes in what was saved, if it belongs to this model and context. True if nothing of it is missing here. If the
    /// process ends before [`Kept::trust`] is called, it is not loaded again.
    pub fn load(&mut self, context: &mut Context<'_>, cells: &mut Cells) -> Result<bool, Error> {
        let began = Instant::now();
        let Some(index) = self.open().map_err(|error| failed(&self.folder, &error))? else { return Ok(true) };
        // The latest last, so that it counts as used last.
        for entry in index.entries.iter().rev() {
            let Some(seq) = cells.adopt(&entry.partition, entry.tokens) else { continue };
            context.apply(cells.take_ops())?;
            let path = self.folder.join(&entry.file);
            match context.load(&path, seq, entry.tokens) {
                Ok(tokens) => {
                    cells.extend(seq, &tokens, tokens.len());
                    self.know(entry.clone(), tokens, fs::metadata(&path).map_or(0, |file| file.len()), true);
                }
                Err(error) => tracing::warn!(%error, file = entry.file, "a part of the saved prefix cache cannot be read"),
            }
            cells.end(seq);
            context.apply(cells.take_ops())?;
        }
        self.files.reverse();
        tracing::info!(sequences = self.files.len(), cells = cells.used(), took = ?began.elapsed(), "prefix cache loaded");
        Ok(self.files.len() == index.entries.len())
    }

    /// The index of what may be loaded, after a mark was set.
    fn open(&mut self) -> io::Result<Option<Index>> {
        match fs::File::open(self.folder.join(MARK)) {
            Ok(mark) if matches!(mark.try_lock(), Err(TryLockError::WouldBlock)) => {
                tracing::info!("another worker loads the saved prefix cache at this moment; this one begins without it");
                return Ok(None);
            }
            Ok(_) => {
                tracing::warn!("a worker ended while it loaded the saved prefix cache, which is not loaded again");
                self.discard()?;
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let text = match fs::read(self.folder.join(INDEX)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Index>(&text) {
            Ok(index) if index.fingerprint == self.fingerprint && index.entries.iter().all(Entry::is_ours) => {
                let mark = self.create(MARK)?;
                // Where nothing can be locked, whoever starts at the same time removes the files.
                let _ = mark.try_lock();
                self.mark = Some(mark);
                return Ok(Some(index));
            }
            Ok(_) => tracing::info!("the saved prefix cache belongs to another model or version"),
            Err(error) => tracing::warn!(%error, "the saved prefix cache's index cannot be read"),
        }
        self.discard()?;
        Ok(None)
    }

    /// What was loaded can be worked with.
    pub fn trust(&mut self) -> io::Result<()> {
        self.mark = None;
        remove(&self.folder.join(MARK))
    }

    /// Removes what was saved.
    pub fn discard(&mut self) -> io::Result<()> {
        self.files.clear();
        remove(&self.folder.join(INDEX))?;
        self.trust()?;
        self.sweep()
    }

    /// Removes files that neither the index names nor the next one will: what is in them has changed meanwhile.
    fn let_go(&mut self, wanted: &[Entry]) -> io::Result<()> {
        for file in self.files.extract_if(.., |file| !file.indexed && !wanted.contains(&file.entry)) {
            remove(&self.folder.join(&file.entry.file))?;
        }
        Ok(())
    }

    /// Removes all other files of cells and indices that came to nothing, also those of a worker that was killed while it saved.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let known = path.file_name().is_some_and(|name| self.files.iter().any(|file| name == file.entry.file.as_str()));
            let ends_in = |end: &str| path.extension().is_some_and(|extension| extension == end);
            if (ends_in(CELLS) && !known) || (ends_in(NEW) && was_given_up(&path)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.folder.join(name))
    }
}

/// Removes a file that need not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An index that nobody writes any more.
fn was_given_up(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|file| file.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > WRITTEN_WITHIN))
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Tells apart models of one size and one time: those that were trained on from the same weights, in images whose files all
/// have one time. The weights differ everywhere then, so some parts are enough.
fn sample(path: &Path, bytes: u64) -> io::Result<u64> {
    let mut file = fs::File::open(path)?;
    // Another compiler may have another one: that costs the cache once.
    let mut hasher = DefaultHasher::new();
    let mut part = Vec::new();
    for number in 0..PARTS {
        file.seek(SeekFrom::Start(bytes / PARTS * number))?;
        part.clear();
        file.by_ref().take(PART).read_to_end(&mut part)?;
        hasher.write(&part);
    }
    Ok(hasher.finish())
}

fn failed(folder: &Path, error: &io::Error) -> Error {
    Error::Engine(format!("the prefix cache cannot be kept in {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests;
