//! What the machine says of its memory.

use std::fs;
use std::path::{Path, PathBuf};

use memory_stats::memory_stats;

use super::ledger::{Kind, Meter, Reading};
use crate::cards;
use crate::options::ModelOptions;

/// Where models with these options lie.
pub fn meter(models: &[ModelOptions]) -> Box<dyn Meter> {
    let mut wanted: Vec<usize> = models.iter().flat_map(|model| model.cards.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let cards: Vec<usize> = if on_card(models) { cards::memory(&wanted).iter().map(|memory| memory.card).collect() } else { Vec::new() };
    if cards.is_empty() { Box::new(Processor) } else { Box::new(Cards(cards)) }
}

/// They lie on graphics cards, which are there.
pub fn on_card(models: &[ModelOptions]) -> bool {
    models.iter().any(|model| model.gpu_layers > 0) && !cards::all().is_empty()
}

/// The cards with these numbers.
struct Cards(Vec<usize>);

impl Meter for Cards {
    fn kind(&self) -> Kind {
        Kind::Cards
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|card| format!("card {card}")).collect()
    }

    fn read(&self) -> Vec<Reading> {
        let told = cards::memory(&self.0);
        let reading = |card: &usize| match told.iter().find(|memory| memory.card == *card) {
            // One whose driver tells nothing takes the machine's memory.
            Some(memory) if memory.total == 0 => Reading { used: 0, free: available() },
            Some(memory) => Reading { used: memory.total.saturating_sub(memory.free), free: memory.free },
            // It was there before; nothing can be loaded onto it now.
            None => Reading::default(),
        };
        self.0.iter().map(reading).collect()
    }
}

/// The memory of the machine, of which this process has its part.
struct Processor;

impl Meter for Processor {
    fn kind(&self) -> Kind {
        Kind::Processor
    }

    fn names(&self) -> Vec<String> {
        vec!["processor".into()]
    }

    fn read(&self) -> Vec<Reading> {
        // Weights are pages of their files, so what counts is what is resident, not what was allocated.
        let used = memory_stats().map_or_else(
            || {
                tracing::warn!("the memory of this process cannot be read; estimates are not corrected");
                0
            },
            |memory| u64::try_from(memory.physical_mem).unwrap_or(u64::MAX),
        );
        vec![Reading { used, free: available() }]
    }
}

/// Bytes that can be had without pushing out anything that is in use; no bound where the system does not tell.
fn available() -> u64 {
    available_under(Path::new("/")).unwrap_or(u64::MAX)
}

/// The least of what the machine has and what each control group (version 2) that holds this process may still take.
fn available_under(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib = |key| field(&machine, key).map(|kib| kib.saturating_mul(1024));
    // The kernel counts pages of files as available even if they are mapped, which weights are as long as their model is
    // loaded. Memory that is shared without a file is mapped as well, but not counted as available.
    let mapped = kib("Mapped:").unwrap_or(0).saturating_sub(kib("Shmem:").unwrap_or(0));
    let machine = kib("MemAvailable:")?.saturating_sub(mapped);
    Some(groups(root).iter().filter_map(|group| available_in(group)).fold(machine, u64::min))
}

/// The folders of the groups that hold this process.
fn groups(root: &Path) -> Vec<PathBuf> {
    let told = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let path = told.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let top = root.join("sys/fs/cgroup");
    Path::new(path).ancestors().map(|group| top.join(group)).collect()
}

/// `None`: the group has no limit.
fn available_in(group: &Path) -> Option<u64> {
    let number = |file| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let told = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let stat = |key| field(&told, key).unwrap_or(0);
    // As for the machine: pages of files can go, but for those that are mapped.
    let files = stat("active_file").saturating_add(stat("inactive_file"));
    let mapped = stat("file_mapped").saturating_sub(stat("shmem"));
    Some(limit.saturating_sub(used.saturating_sub(files.saturating_sub(mapped))))
}

/// The number behind a key at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_available_leaves_out_what_is_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(available_under(root), None);
        write(root, "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nMapped: 1500 kB\nShmem:  500 kB\nShmemHugePages: 0 kB\n");
        assert_eq!(available_under(root), Some(4000 * 1024));
    }

    #[test]
    fn the_tightest_control_group_decides() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "proc/meminfo", "MemAvailable: 1000000 kB\n");
        write(root, "proc/self/cgroup", "4:memory:/elsewhere\n0::/outer/inner\n");
        write(root, "sys/fs/cgroup/outer/inner/memory.max", "max\n");
        write(root, "sys/fs/cgroup/outer/inner/memory.current", "700\n");
        assert_eq!(available_under(root), Some(1_000_000 * 1024));
        write(root, "sys/fs/cgroup/outer/memory.max", "1000\n");
        write(root, "sys/fs/cgroup/outer/memory.current", "700\n");
        assert_eq!(available_under(root), Some(300));
        let stat = "shmem_thp 7\nshmem 50\nactive_file 200\ninactive_file 100\nfile_mapped 150\n";
        write(root, "sys/fs/cgroup/outer/memory.stat", stat);
        assert_eq!(available_under(root), Some(500), "300, and 200 of files that nobody has mapped");
    }

    #[test]
    fn this_machine_tells_what_it_has() {
        let reading = Processor.read();
        assert!(matches!(reading[..], [Reading { used: 1_000_000.., free: 1.. }]), "{reading:?}");
    }
}
