//! What the kernel tells of processes, in /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::Result;

/// Clock ticks in a second: what Linux tells programs is always in hundredths.
const TICKS: u32 = 100;

/// Resident memory of a process, in bytes.
///
/// # Errors
/// There is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    field_kib(&status, "VmRSS:").map(|kib| kib * 1024).ok_or_else(|| format!("{path} tells no resident memory").into())
}

/// Resident memory of a process and all that it started, in bytes. What several share counts for each.
///
/// # Errors
/// There is no such process.
pub fn resident_tree(pid: u32) -> Result<u64> {
    // One that has ended meanwhile holds nothing.
    Ok(descendants(pid, &parents()?).into_iter().filter_map(|pid| resident(pid).ok()).sum())
}

/// Processor time that a process has taken, all its threads together.
///
/// # Errors
/// There is no such process.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let (_, ticks) = parent_and_ticks(&stat).ok_or_else(|| format!("{path} is not understood: {stat}"))?;
    Ok(Duration::from_secs(ticks) / TICKS)
}

/// Clock ticks that these processes and all below them have taken; of those below, the ones that have ended and were waited
/// for count as well.
///
/// # Errors
/// The kernel does not tell.
pub fn ticks_of_trees(roots: &[u32]) -> Result<u64> {
    let parents = parents()?;
    let pids: BTreeSet<u32> = roots.iter().flat_map(|root| descendants(*root, &parents)).collect();
    // One that ended meanwhile is told of by its parent the next time.
    let stats = pids.into_iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    Ok(stats.filter_map(|stat| ticks_with_ended(&stat)).sum())
}

/// Files that this process may have open.
///
/// # Errors
/// The kernel does not tell.
pub fn open_files() -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    soft_limit(&limits, "Max open files").ok_or_else(|| "/proc/self/limits tells no limit of open files".into())
}

/// The processors that this process may use, as the kernel writes them.
///
/// # Errors
/// The kernel does not tell.
pub fn processors() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(field(&status, "Cpus_allowed_list:").unwrap_or_default().to_owned())
}

/// Each process' parent.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        parents.extend(parent_and_ticks(&stat).map(|(parent, _)| (pid, parent)));
    }
    Ok(parents)
}

/// A process and all below it.
fn descendants(pid: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([pid]);
    loop {
        let more: BTreeSet<u32> = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(child, _)| *child).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

/// Of a line of /proc/PID/stat: the parent, and the ticks in user and kernel mode. The name of the program, in
/// parentheses, may hold anything.
fn parent_and_ticks(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// Of a line of /proc/PID/stat: the ticks in user and kernel mode, its own and those of children that it has waited for.
fn ticks_with_ended(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(4).map_while(|ticks| ticks.parse().ok()).collect();
    (ticks.len() == 4).then(|| ticks.iter().sum())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn field_kib(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.strip_suffix("kB")?.trim().parse().ok()
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    match field(limits, name)?.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        descendants, field_kib, open_files, parent_and_ticks, processor_time, resident, resident_tree, soft_limit, ticks_of_trees,
        ticks_with_ended,
    };
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        let stat = "4711 (odd) name) S 17 4711 4711 0 -1 4194304 100 0 0 0 250 50 7 3 20 0 4 0 1000 1 2 3";
        assert_eq!(parent_and_ticks(stat), Some((17, 300)));
        assert_eq!(ticks_with_ended(stat), Some(310));
        assert_eq!(parent_and_ticks("4711 (cut) S 17"), None);
        assert_eq!(ticks_with_ended("4711 (cut) S 17 4711 4711 0 -1 4194304 100 0 0 0 250 50 7"), None);
    }

    #[test]
    fn fields_and_limits_are_read() {
        let status = "Name:\tkontor\nVmHWM:\t  9000 kB\nVmRSS:\t    4321 kB\n";
        assert_eq!(field_kib(status, "VmRSS:"), Some(4321));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 20000                files     \n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
        assert_eq!(soft_limit("Max open files  unlimited unlimited files", "Max open files"), Some(u64::MAX));
    }

    #[test]
    fn a_tree_is_everything_below() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (20, 1)]);
        assert_eq!(descendants(10, &parents), BTreeSet::from([10, 11, 12]));
    }

    #[test]
    fn this_process_is_told_of() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 0 && resident_tree(pid).unwrap() >= resident(pid).unwrap() / 2);
        assert!(processor_time(pid).is_ok() && ticks_of_trees(&[pid]).is_ok() && open_files().unwrap() > 0);
    }
}
