//! The prefix cache over a restart: saved when the worker ends or has nothing to do, loaded when it starts.
//!
//! The files hold what people wrote, as numbers; the folder is readable by its owner alone and bounded in size. The
//! index is taken away before anything is loaded: files that make llama.cpp end the process do so once, not at every
//! start.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::cells::Cells;
use super::context::{Context, flash_attention};
use crate::error::Error;
use crate::model::LLAMA;
use crate::options::ModelOptions;

const INDEX: &str = "index.json";
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

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    file: String,
    partition: String,
    tokens: usize,
}

impl Kept {
    /// `None` if nothing is to be kept.
    pub fn new(options: &ModelOptions) -> io::Result<Option<Self>> {
        let Some(folder) = options.state_dir.clone() else { return Ok(None) };
        let fingerprint = Fingerprint::of(options)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Some(Self { folder, limit: options.state_limit, fingerprint }))
    }

    /// Writes what the idle sequences have, the latest first, up to the limit.
    pub fn save(&self, context: &Context<'_>, cells: &Cells) -> Result<(), Error> {
        let began = Instant::now();
        self.clear().map_err(|error| failed(&self.folder, &error))?;
        let mut index = Index { fingerprint: self.fingerprint.clone(), entries: Vec::new() };
        let (mut bytes, mut per_token) = (0, 0);
        let worth = cells.kept().filter(|kept| kept.tokens.len() >= WORTH_KEEPING && !kept.partition.ends_with(TRANSIENT));
        for kept in worth {
            let length = u64::try_from(kept.tokens.len()).unwrap_or(u64::MAX);
            if bytes + per_token * length > self.limit {
                continue;
            }
            let file = format!("{}.cells", index.entries.len());
            let written = context.save(&self.folder.join(&file), kept.seq, kept.tokens)?;
            bytes += written;
            per_token = written / length;
            index.entries.push(Entry { file, partition: kept.partition.to_owned(), tokens: kept.tokens.len() });
        }
        self.write(&index).map_err(|error| failed(&self.folder, &error))?;
        tracing::info!(sequences = index.entries.len(), bytes, took = ?began.elapsed(), "prefix cache saved");
        Ok(())
    }

    /// Takes in what was saved, if it belongs to this model and context; returns how many sequences that were.
    pub fn load(&self, context: &mut Context<'_>, cells: &mut Cells) -> Result<usize, Error> {
        let began = Instant::now();
        let Some(index) = self.take_index().map_err(|error| failed(&self.folder, &error))? else { return Ok(0) };
        if index.fingerprint != self.fingerprint {
            tracing::info!("the saved prefix cache belongs to another model or version");
            return Ok(0);
        }
        let mut loaded = 0;
        // The latest last, so that it counts as used last.
        for entry in index.entries.iter().rev() {
            let Some(seq) = cells.adopt(&entry.partition, entry.tokens) else { break };
            context.apply(cells.take_ops())?;
            match context.load(&self.folder.join(&entry.file), seq, entry.tokens) {
                Ok(tokens) => {
                    cells.extend(seq, &tokens, tokens.len());
                    cells.end(seq);
                    context.apply(cells.take_ops())?;
                    loaded += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, file = entry.file, "a part of the saved prefix cache cannot be read");
                    cells.end(seq);
                    context.apply(cells.take_ops())?;
                }
            }
        }
        tracing::info!(sequences = loaded, cells = cells.used(), took = ?began.elapsed(), "prefix cache loaded");
        Ok(loaded)
    }

    /// The index, which is gone afterwards.
    fn take_index(&self) -> io::Result<Option<Index>> {
        let path = self.folder.join(INDEX);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        fs::remove_file(&path)?;
        match serde_json::from_slice(&text) {
            Ok(index) => Ok(Some(index)),
            Err(error) => {
                tracing::warn!(%error, "the saved prefix cache's index cannot be read");
                Ok(None)
            }
        }
    }

    fn write(&self, index: &Index) -> io::Result<()> {
        let draft = self.folder.join("index.new");
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        serde_json::to_writer(file, index)?;
        fs::rename(draft, self.folder.join(INDEX))
    }

    /// Removes what was saved before.
    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let ours = path.extension().is_some_and(|extension| extension == "cells") || path.ends_with(INDEX);
            if ours {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
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
mod tests {
    use super::*;
    use crate::options::{CacheType, FlashAttention};

    #[test]
    fn whatever_the_cells_depend_on_is_another_fingerprint() {
        type Change = fn(&mut ModelOptions);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, vec![7; 600_000]).unwrap();
        let options = ModelOptions::new(&path, "m");
        let original = Fingerprint::of(&options).unwrap();
        assert_eq!(Fingerprint::of(&options).unwrap(), original);
        let changes: [Change; 4] = [
            |options| options.cache_type = CacheType::Q8_0,
            |options| options.flash_attention = FlashAttention::On,
            |options| options.gpu_layers = 99,
            |options| options.cards = vec![1],
        ];
        for change in changes {
            let mut changed = options.clone();
            change(&mut changed);
            assert_ne!(Fingerprint::of(&changed).unwrap(), original, "{changed:?}");
        }
        // As a model that was trained on from the same weights, in an image whose files all have one time.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, vec![8; 600_000]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let trained_on = Fingerprint::of(&options).unwrap();
        assert_eq!((trained_on.model_bytes, trained_on.model_changed), (original.model_bytes, original.model_changed));
        assert_ne!(trained_on.model_sample, original.model_sample);
    }
}
