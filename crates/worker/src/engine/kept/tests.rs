use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::options::{CacheType, FlashAttention};

fn tokens(number: i32, length: i32) -> Vec<LlamaToken> {
    (0..length).map(|at| LlamaToken(number * 10_000 + at)).collect()
}

/// A conversation, or more of it, that was answered.
fn converse(cells: &mut Cells, number: i32, length: i32) {
    let all = tokens(number, length);
    let begun = cells.begin("p", &all).unwrap();
    cells.extend(begun.seq, &all[begun.reused..], all.len() - begun.reused);
    cells.end(begun.seq);
}

/// A folder with a model, and what a worker that starts now makes of it.
struct House(TempDir);

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.gguf"), b"GGUF").unwrap();
        Self(folder)
    }

    fn start(&self, limit: u64) -> Kept {
        let mut options = ModelOptions::new(self.0.path().join("model.gguf"), "m");
        (options.state_dir, options.state_limit) = (Some(self.0.path().join("kept")), limit);
        Kept::new(&options).unwrap().unwrap()
    }

    fn files(&self) -> Vec<String> {
        self.named(CELLS)
    }

    /// All files whose names end like this.
    fn named(&self, end: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("kept")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
        names.sort();
        names
    }

    /// What a worker would load: how many tokens there are in each file, all of which exist.
    fn indexed(&self) -> Option<Vec<usize>> {
        let text = fs::read(self.0.path().join("kept").join(INDEX)).ok()?;
        let index: Index = serde_json::from_slice(&text).unwrap();
        assert!(index.entries.iter().all(|entry| self.files().contains(&entry.file)), "{:?} of {index:?}", self.files());
        Some(index.entries.iter().map(|entry| entry.tokens).collect())
    }
}

/// As llama.cpp would: ten bytes for each token.
fn write(path: &Path, idle: &Idle<'_>) -> Result<u64, Error> {
    fs::write(path, vec![0; idle.tokens.len() * 10]).unwrap();
    Ok(number(idle.tokens.len()) * 10)
}

/// As llama.cpp would where the disk is full.
fn half(path: &Path, _: &Idle<'_>) -> Result<u64, Error> {
    fs::write(path, b"half").unwrap();
    Err(Error::Engine("no room on the disk".into()))
}

/// Saves to the end; returns how many files were written.
fn save(kept: &mut Kept, cells: &Cells) -> usize {
    let turns = (0..100).take_while(|_| kept.save_next(cells, write).unwrap());
    let written = turns.count();
    assert!(written < 100, "it never ends");
    written
}

#[test]
fn a_turn_writes_one_file_and_what_was_saved_before_is_there_until_the_last() {
    let house = House::new();
    let (mut kept, mut cells) = (house.start(1 << 20), Cells::new(4096, 16, true));
    for (number, length) in [(1, 100), (2, 110), (3, 120)] {
        converse(&mut cells, number, length);
    }
    for turn in 1..=3 {
        assert!(kept.save_next(&cells, write).unwrap());
        assert_eq!((house.files().len(), house.indexed()), (turn, None), "one in each, and the index at the end");
    }
    assert!(!kept.save_next(&cells, write).unwrap());
    assert_eq!(house.indexed(), Some(vec![120, 110, 100]), "the latest first");

    converse(&mut cells, 1, 150);
    converse(&mut cells, 4, 90);
    for _ in 0..2 {
        assert!(kept.save_next(&cells, write).unwrap());
        assert_eq!(
            house.indexed(),
            Some(vec![120, 110, 100]),
            "If you are here because this failed: a worker that is killed while it saves has lost what was saved before."
        );
    }
    assert!(!kept.save_next(&cells, write).unwrap(), "what has not changed is not written again");
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![90, 150, 120, 110]), 4), "nothing else is left");
}

#[test]
fn a_save_that_is_interrupted_goes_on_where_it_was() {
    let house = House::new();
    let (mut kept, mut cells) = (house.start(1 << 20), Cells::new(4096, 16, true));
    (1..=4).for_each(|number| converse(&mut cells, number, 100));
    assert!(kept.save_next(&cells, write).unwrap() && kept.save_next(&cells, write).unwrap());
    // Of one that is in a file there is more now, and another one has come.
    converse(&mut cells, 4, 130);
    converse(&mut cells, 5, 100);
    assert_eq!(save(&mut kept, &cells), 4, "the third is in a file already");
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![100, 130, 100, 100, 100]), 5));
}

#[test]
fn no_more_is_kept_than_fits_and_that_is_no_endless_task() {
    let house = House::new();
    let (mut kept, mut cells) = (house.start(2_500), Cells::new(4096, 16, true));
    for (number, length) in [(1, 70), (2, 100), (3, 90), (4, 300), (5, 63)] {
        converse(&mut cells, number, length);
    }
    save(&mut kept, &cells);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![90, 100]), 2), "the latest that fit and are worth it");
    let cells = Cells::new(4096, 16, true);
    save(&mut kept, &cells);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![]), 0));
}

#[test]
fn a_step_that_fails_costs_the_cells_and_not_the_files() {
    let house = House::new();
    let (mut kept, mut cells) = (house.start(1 << 20), Cells::new(4096, 16, true));
    for (number, length) in [(1, 100), (2, 110), (3, 120)] {
        converse(&mut cells, number, length);
    }
    save(&mut kept, &cells);
    // Another one is in a file, and not yet in the index; and so is more of one.
    converse(&mut cells, 1, 105);
    converse(&mut cells, 4, 130);
    assert!(kept.save_next(&cells, write).unwrap() && kept.save_next(&cells, write).unwrap());
    cells.forget_all();
    kept.cells_lost();
    save(&mut kept, &cells);
    assert_eq!(
        (house.indexed(), house.files().len()),
        (Some(vec![130, 105, 120, 110]), 4),
        "If you are here because this failed: after a step that failed the next save removes everything that was saved before."
    );
    // Of one there is more now, and another one is new.
    converse(&mut cells, 2, 150);
    converse(&mut cells, 5, 90);
    assert_eq!(save(&mut kept, &cells), 2);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![90, 150, 130, 105, 120]), 5), "the latest first");
    // What is there again, word for word, is given up like any other.
    converse(&mut cells, 1, 105);
    assert_eq!(save(&mut kept, &cells), 0, "it is in a file already");
    cells.forget_all();
    save(&mut kept, &cells);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![130, 120]), 2));
}

#[test]
fn what_outlives_a_failed_step_makes_room_for_what_is_computed_since() {
    let house = House::new();
    let (mut kept, mut cells) = (house.start(2_500), Cells::new(4096, 16, true));
    for (number, length) in [(1, 90), (2, 110)] {
        converse(&mut cells, number, length);
    }
    save(&mut kept, &cells);
    cells.forget_all();
    kept.cells_lost();
    converse(&mut cells, 3, 70);
    save(&mut kept, &cells);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![70, 110]), 2), "the latest that fit");
}

#[test]
fn what_ended_a_worker_while_it_was_loaded_is_not_loaded_again() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    converse(&mut cells, 1, 100);
    save(&mut house.start(1 << 20), &cells);
    for _ in 0..2 {
        // Killed at any other time it is.
        let mut well = house.start(1 << 20);
        assert!(well.open().unwrap().is_some());
        well.trust().unwrap();
    }
    assert!(house.start(1 << 20).open().unwrap().is_some(), "and here it ends");
    assert!(
        house.start(1 << 20).open().unwrap().is_none(),
        "If you are here because this failed: files that llama.cpp does not bear end the worker at every start."
    );
    assert_eq!((house.indexed(), house.files().len()), (None, 0));
    let mut again = house.start(1 << 20);
    assert!(again.open().unwrap().is_none());
    save(&mut again, &cells);
    assert!(house.start(1 << 20).open().unwrap().is_some(), "what is saved after that is another thing");
}

#[test]
fn who_starts_while_another_one_loads_leaves_the_files_alone() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    converse(&mut cells, 1, 100);
    save(&mut house.start(1 << 20), &cells);
    let mut loads = house.start(1 << 20);
    assert!(loads.open().unwrap().is_some());
    assert!(house.start(1 << 20).open().unwrap().is_none(), "it begins cold");
    assert_eq!(house.indexed(), Some(vec![100]), "If you are here because this failed: two workers that start at once lose everything.");
    loads.trust().unwrap();
    assert!(house.start(1 << 20).open().unwrap().is_some());
}

#[test]
fn an_index_that_names_files_elsewhere_is_not_followed() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    for elsewhere in ["../model.gguf", "/etc/hostname", "../../0.cells", ".cells"] {
        converse(&mut cells, 1, 100);
        save(&mut house.start(1 << 20), &cells);
        let path = house.0.path().join("kept").join(INDEX);
        let mut index: Index = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index.entries[0].file = elsewhere.into();
        fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
        assert!(house.start(1 << 20).open().unwrap().is_none(), "{elsewhere}");
    }
    assert!(house.0.path().join("model.gguf").exists());
}

#[test]
fn what_was_left_half_done_is_removed_with_the_next_save() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    (1..=2).for_each(|number| converse(&mut cells, number, 100));
    assert!(house.start(1 << 20).save_next(&cells, write).unwrap());
    let mut kept = house.start(1 << 20);
    assert!(kept.open().unwrap().is_none(), "without an index there is nothing");
    assert!(kept.save_next(&cells, half).is_err());
    assert_eq!(house.files().len(), 1, "If you are here because this failed: a full disk gets fuller with each save that fails.");
    save(&mut kept, &cells);
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![100, 100]), 2));
}

#[test]
fn two_workers_of_which_one_takes_the_others_place_save_into_one_folder() {
    let house = House::new();
    let (mut old_cells, mut new_cells) = (Cells::new(4096, 16, true), Cells::new(4096, 16, true));
    converse(&mut old_cells, 1, 100);
    let mut old = house.start(1 << 20);
    save(&mut old, &old_cells);
    let mut new = house.start(1 << 20);
    for number in 2..=3 {
        converse(&mut new_cells, number, 110);
    }
    assert!(new.save_next(&new_cells, write).unwrap());
    converse(&mut old_cells, 4, 120);
    save(&mut old, &old_cells);
    assert_eq!(house.indexed(), Some(vec![120, 100]));
    assert_eq!(save(&mut new, &new_cells), 2, "what the other one has removed is written again");
    assert_eq!((house.indexed(), house.files().len()), (Some(vec![110, 110]), 2));
}

#[test]
fn two_workers_that_finish_at_once_leave_an_index_that_can_be_read() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    converse(&mut cells, 1, 100);
    let (mut kept, other) = (house.start(1 << 20), house.start(1 << 20));
    let folder = house.0.path().join("kept");
    // The other one is in the middle of its index, and a third was killed there some time ago.
    other.create(&format!("now.{NEW}")).unwrap();
    other.create(&format!("killed.{NEW}")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    save(&mut kept, &cells);
    assert_eq!(house.indexed(), Some(vec![100]));
    assert_eq!(
        house.named(NEW),
        [format!("now.{NEW}")],
        "If you are here because this failed: one worker takes away what another one is writing, or what was left lies there for ever."
    );
    // An index that cannot be put in place is not left behind.
    fs::remove_file(folder.join(INDEX)).unwrap();
    fs::create_dir(folder.join(INDEX)).unwrap();
    assert!(kept.save_next(&cells, write).is_err());
    assert_eq!(house.named(NEW).len(), 1);
}

#[test]
fn what_people_wrote_is_for_the_owner_of_the_files_alone() {
    let house = House::new();
    let mut cells = Cells::new(4096, 16, true);
    converse(&mut cells, 1, 100);
    let mut kept = house.start(1 << 20);
    save(&mut kept, &cells);
    kept.step(4, 16);
    assert!(house.start(1 << 20).open().unwrap().is_some(), "there is a mark now");
    let names = house.named("");
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let mode = fs::metadata(house.0.path().join("kept").join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "If you are here because this failed: others on this machine can read {name}.");
    }
}

#[test]
fn steps_for_seeds_have_the_size_of_before_unless_that_is_far_from_right() {
    let house = House::new();
    let step = |threads, measured| house.start(1 << 20).step(threads, measured);
    assert_eq!(step(4, 16), 16);
    assert_eq!(
        [step(4, 32), step(4, 8), step(4, 16)],
        [16, 16, 16],
        "If you are here because this failed: a seed gives another answer after a restart."
    );
    assert_eq!((step(4, 2), step(4, 16)), (2, 16), "once, beside something else that computed");
    assert_eq!((step(4, 64), step(4, 32)), (64, 64), "the first time was disturbed");
    assert_eq!((step(2, 8), step(2, 16)), (8, 8), "with other threads it is another machine");
    fs::write(house.0.path().join("kept").join("step.json"), b"nonsense").unwrap();
    assert_eq!(step(2, 16), 16);
}

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
