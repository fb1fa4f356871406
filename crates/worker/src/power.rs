//! What the machine draws, where its drivers tell: so that energy can be accounted to what caused it.
//!
//! Sources: the kernel's powercap interface (Intel's and AMD's RAPL; often readable by root alone) and hwmon (AMD's and
//! Intel's cards) under `/sys/class`, and NVIDIA's management library with the feature `nvml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use worker_protocol::Device;

/// What was read is good for so long.
const FRESH: Duration = Duration::from_millis(900);
/// Made anew whenever a kernel starts: the same in all of its containers, whatever their names are, and on no other machine.
/// Some put another one in its place for each container (LXC does); there each counts as a machine, and the meters that
/// several of them show are added up several times.
const MACHINE: &str = "/proc/sys/kernel/random/boot_id";
/// Drivers of cards whose hwmon tells power or energy.
const CARDS: [&str; 3] = ["amdgpu", "xe", "i915"];

/// The machine's meters. Reading costs some system calls, at most once a second.
pub struct Meters {
    root: PathBuf,
    machine: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    read: Option<Instant>,
    devices: Vec<Device>,
    /// Of counters that begin anew at their end: the last value, and what came before in microjoules.
    counters: BTreeMap<PathBuf, (u64, u64)>,
}

impl Meters {
    /// Of this machine; shared by all who ask.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Meters> = OnceLock::new();
        HERE.get_or_init(|| Self::under(Path::new("/sys/class"), machine(Path::new(MACHINE))))
    }

    fn under(root: &Path, machine: String) -> Self {
        Self { root: root.to_owned(), machine, inner: Mutex::default() }
    }

    fn device(&self, name: String, power_mw: Option<u64>, energy_mj: Option<u64>) -> Device {
        Device { name, machine: self.machine.clone(), power_mw, energy_mj }
    }

    /// What the meters say; empty where there are none.
    pub fn read(&self) -> Vec<Device> {
        let mut inner = self.inner.lock();
        if inner.read.is_none_or(|read| read.elapsed() > FRESH) {
            inner.read = Some(Instant::now());
            inner.devices = self.packages(&mut inner.counters);
            let cards = self.cards(&mut inner.counters);
            inner.devices.extend(cards);
            inner.devices.extend(self.nvidia());
        }
        inner.devices.clone()
    }

    /// Processors: `powercap/intel-rapl:N` (AMD's have the same name), without their parts.
    fn packages(&self, counters: &mut BTreeMap<PathBuf, (u64, u64)>) -> Vec<Device> {
        let folders = folders(&self.root.join("powercap")).into_iter().filter(|folder| {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with("intel-rapl:") && name.matches(':').count() == 1
        });
        let device = |folder: PathBuf| {
            let energy = advance(counters, &folder.join("energy_uj"), number(&folder.join("max_energy_range_uj")))?;
            Some(self.device(text(&folder.join("name"))?, None, Some(energy)))
        };
        folders.filter_map(device).collect()
    }

    fn cards(&self, counters: &mut BTreeMap<PathBuf, (u64, u64)>) -> Vec<Device> {
        let device = |folder: PathBuf| {
            let driver = text(&folder.join("name")).filter(|name| CARDS.contains(&name.as_str()))?;
            let power = number(&folder.join("power1_average")).or_else(|| number(&folder.join("power1_input")));
            let energy = advance(counters, &folder.join("energy1_input"), None);
            let name = format!("{driver} {}", folder.file_name()?.to_string_lossy());
            (power.is_some() || energy.is_some()).then(|| self.device(name, power.map(|uw| uw / 1000), energy))
        };
        folders(&self.root.join("hwmon")).into_iter().filter_map(device).collect()
    }

    #[cfg(feature = "nvml")]
    fn nvidia(&self) -> Vec<Device> {
        use nvml_wrapper::Nvml;
        static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
        let library = NVML.get_or_init(|| {
            let found = Nvml::init();
            if let Err(error) = &found {
                tracing::info!(%error, "NVIDIA's management library is not here; the cards' power is not known");
            }
            found.ok()
        });
        let Some(library) = library else { return Vec::new() };
        let device = |index: u32| {
            let card = library.device_by_index(index).ok()?;
            // Containers of one machine may each count other cards from 0.
            let own = card.uuid().unwrap_or_else(|_| index.to_string());
            let name = format!("{} {own}", card.name().unwrap_or_else(|_| "NVIDIA card".into()));
            Some(self.device(name, card.power_usage().ok().map(u64::from), card.total_energy_consumption().ok()))
        };
        (0..library.device_count().unwrap_or(0)).filter_map(device).collect()
    }

    #[cfg(not(feature = "nvml"))]
    fn nvidia(&self) -> Vec<Device> {
        Vec::new()
    }
}

/// What that file calls the machine; empty without it.
fn machine(file: &Path) -> String {
    text(file).unwrap_or_default()
}

/// Millijoules since this process first looked; `None` without a readable counter.
fn advance(counters: &mut BTreeMap<PathBuf, (u64, u64)>, file: &Path, range: Option<u64>) -> Option<u64> {
    let now = number(file)?;
    let (last, total) = counters.entry(file.to_owned()).or_insert((now, 0));
    let grown = if now >= *last { now - *last } else { range.unwrap_or(0).saturating_sub(*last).saturating_add(now) };
    (*last, *total) = (now, *total + grown);
    Some(*total / 1000)
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    // A kernel without the interface has no such folder.
    let mut found: Vec<PathBuf> = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn now(root: &Path, meters: &Meters) -> Vec<Device> {
        meters.inner.lock().read = None;
        assert!(root.exists());
        meters.read()
    }

    #[test]
    fn meters_are_read_as_the_kernel_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "powercap/intel-rapl:0/name", "package-0\n");
        write(root, "powercap/intel-rapl:0/energy_uj", "9000000\n");
        write(root, "powercap/intel-rapl:0/max_energy_range_uj", "10000000\n");
        // A part of the package, which must not be counted twice.
        write(root, "powercap/intel-rapl:0:0/name", "core\n");
        write(root, "powercap/intel-rapl:0:0/energy_uj", "1\n");
        write(root, "hwmon/hwmon0/name", "nvme\n");
        write(root, "hwmon/hwmon0/power1_input", "5000000\n");
        write(root, "hwmon/hwmon3/name", "amdgpu\n");
        write(root, "hwmon/hwmon3/power1_average", "87000000\n");
        let meters = Meters::under(root, "here".into());
        let card = meters.device("amdgpu hwmon3".into(), Some(87_000), None);
        assert_eq!(card.machine, "here");
        let package = |energy_mj| meters.device("package-0".into(), None, Some(energy_mj));
        assert_eq!(now(root, &meters), [package(0), card.clone()]);
        write(root, "powercap/intel-rapl:0/energy_uj", "9500000\n");
        assert_eq!(now(root, &meters)[0], package(500));
        // The counter begins anew.
        write(root, "powercap/intel-rapl:0/energy_uj", "250000\n");
        assert_eq!(now(root, &meters)[0], package(1_250));
    }

    #[test]
    fn a_machine_without_meters_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Meters::under(folder.path(), String::new()).read().iter().all(|device| device.name.contains("NVIDIA")));
    }

    #[test]
    fn the_kernel_says_which_machine_it_is() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "boot_id", "0b6c9d1e-6f0f-4c57-8a55-0c1f2f8f6a11\n");
        assert_eq!(machine(&folder.path().join("boot_id")), "0b6c9d1e-6f0f-4c57-8a55-0c1f2f8f6a11");
        assert_eq!(machine(&folder.path().join("nothing")), "", "it does not say");
    }
}
