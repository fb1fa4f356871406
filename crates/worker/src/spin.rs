//! How long the threads that compute look for each other at the end of an operation before they sleep.
//!
//! A step has hundreds of operations, and after each of them the threads wait for the slowest. Who looks for long goes on at
//! once; but where others want the same cores, it keeps from running what it waits for, and a model gets ten times slower
//! (docs/PERFORMANCE.md). So they look for long while they have the cores to themselves. If one of them has to wait for a core,
//! which the kernel tells (`schedstat`: nanoseconds that a thread ran, and that it was ready to), all look for a short time for
//! a while, and then it is tried again.
//!
//! GNU's OpenMP reads the long time when it is loaded ([`worker_protocol::SPIN`]), and takes a shorter one of its own while it
//! has more threads than there are cores (`gomp_managed_threads` and `gomp_throttled_spin_count_var` in libgomp). There is no
//! other way to tell it, so for that while a further team of threads is there, asleep. Two models in one process have more
//! threads than cores anyway. Other OpenMP libraries have other names for all this and are left as they are.

use std::collections::HashMap;
#[cfg(target_os = "linux")]
use std::ffi::CStr;
use std::ffi::{OsString, c_uint, c_void};
use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// From one look at the threads' times to the next.
const PERIOD: Duration = Duration::from_millis(250);
/// From a failure to gather a crowd to the next attempt.
const PAUSE: Duration = Duration::from_secs(60);
/// In nanoseconds. A thread that ran and waited for less tells nothing.
const ENOUGH: u64 = 10_000_000;
/// A thread is disturbed that waits for a core for more than this part of the time in which it could run: one in so many.
const DISTURBED: u64 = 10;
/// Looks for which the short time lasts after a disturbance, at first and at most; it doubles with each in a row.
const FIRST: u32 = 10;
const MOST: u32 = 240;
const TASKS: &str = "/proc/self/task";

/// See the module. One for all engines of the process.
pub struct Spin {
    parallel: Parallel,
    /// Cores that OpenMP counts: those that the process may run on, whatever its share of them is.
    cores: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: Option<Instant>,
    last: HashMap<OsString, Times>,
    judge: Judge,
    /// While it is there, threads look for a short time.
    crowd: Option<Crowd>,
}

impl Spin {
    /// `None` where there is nothing to choose: OpenMP is not GNU's.
    pub fn here() -> Option<&'static Self> {
        static HERE: OnceLock<Option<Spin>> = OnceLock::new();
        let make = || Some(Self { parallel: Parallel::find()?, cores: cores()?, inner: Mutex::default() });
        HERE.get_or_init(make).as_ref()
    }

    /// To be called after each step of an engine that computes with so many threads; looks at them once in a while.
    pub fn stepped(&self, threads: u32) {
        // Otherwise another engine is looking.
        let Some(mut inner) = self.inner.try_lock() else { return };
        let now = Instant::now();
        if inner.next.is_some_and(|next| now < next) {
            return;
        }
        inner.next = Some(now + PERIOD);
        let times = times(Path::new(TASKS));
        // Where the kernel tells nothing, the careful way.
        let disturbed =
            times.is_empty() || times.iter().any(|(task, times)| inner.last.get(task).is_some_and(|last| times.disturbed(*last)));
        inner.last = times;
        let short = inner.judge.short(disturbed);
        if short == inner.crowd.is_some() {
            return;
        }
        inner.crowd = if short { Crowd::gather("crowd", self.parallel, crowd_size(self.cores, threads)) } else { None };
        if short && inner.crowd.is_none() {
            inner.next = Some(now + PAUSE);
        }
    }
}

/// What all threads of the process tell; empty where the kernel does not.
fn times(tasks: &Path) -> HashMap<OsString, Times> {
    // One that has just ended tells nothing.
    let told = |task: fs::DirEntry| Some((task.file_name(), Times::read(&fs::read_to_string(task.path().join("schedstat")).ok()?)?));
    fs::read_dir(tasks).into_iter().flatten().filter_map(|task| told(task.ok()?)).collect()
}

/// Of a thread since it began, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    ran: u64,
    waited: u64,
}

impl Times {
    fn read(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().map_while(|number| number.parse().ok());
        Some(Self { ran: numbers.next()?, waited: numbers.next()? })
    }

    fn disturbed(self, last: Self) -> bool {
        let (ran, waited) = (self.ran.saturating_sub(last.ran), self.waited.saturating_sub(last.waited));
        ran + waited >= ENOUGH && waited > (ran + waited) / DISTURBED
    }
}

/// Says for how long threads look, look after look.
///
/// What a thread waits for while the time is short says little: threads that sleep so often have to be woken as often.
#[derive(Debug, Default)]
struct Judge {
    /// Looks for which the time is short yet.
    left: u32,
    /// For how many it was after the last disturbance.
    lasted: u32,
    /// Looks in a row without a disturbance.
    quiet: u32,
}

impl Judge {
    fn short(&mut self, disturbed: bool) -> bool {
        if self.left > 0 {
            self.left -= 1;
        } else if disturbed {
            let again = self.quiet < FIRST;
            self.lasted = if again { (self.lasted * 2).clamp(FIRST, MOST) } else { FIRST };
            (self.left, self.quiet) = (self.lasted, 0);
        } else {
            self.quiet = self.quiet.saturating_add(1);
        }
        self.left > 0
    }
}

/// Cores that the process may run on.
#[cfg(target_os = "linux")]
fn cores() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    counted(list.trim())
}

#[cfg(not(target_os = "linux"))]
fn cores() -> Option<usize> {
    None
}

/// How many numbers a list as `0-3,8` names.
fn counted(list: &str) -> Option<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').map(range).sum()
}

/// As few threads as make more than there are cores, beside the team of an engine. OpenMP ends the process if it cannot have
/// them.
fn crowd_size(cores: usize, threads: u32) -> usize {
    // The first thread of each team was there before.
    let team = usize::try_from(threads).unwrap_or(1).max(1);
    (cores + 2).saturating_sub(team).max(2)
}

/// A team of threads that do nothing.
struct Crowd(Arc<Gate>);

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Crowd {
    /// `None` if its first thread cannot be had.
    fn gather(name: &str, parallel: Parallel, size: usize) -> Option<Self> {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let lead = move || parallel.wait(&held, c_uint::try_from(size).unwrap_or(c_uint::MAX));
        // Its team ends with it. Nobody waits for that: whoever drops us computes.
        match thread::Builder::new().name(name.into()).spawn(lead) {
            Ok(_lead) => Some(Self(gate)),
            Err(error) => {
                tracing::warn!(%error, "computing threads look for each other for long, although others want their cores");
                None
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        *self.0.open.lock() = true;
        self.0.opened.notify_all();
    }
}

/// `GOMP_parallel` of GNU's OpenMP: lets a team of so many threads, this one among them, call a function, and comes back when
/// all have.
#[derive(Clone, Copy)]
struct Parallel(Function);

type Function = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

impl Parallel {
    /// LLVM's OpenMP has a function of this name as well, and one that GNU's has not.
    #[cfg(target_os = "linux")]
    fn find() -> Option<Self> {
        let found = symbol(c"GOMP_parallel")?;
        if symbol(c"__kmpc_fork_call").is_some() {
            return None;
        }
        #[expect(unsafe_code, reason = "the linker does not know what a symbol is")]
        // SAFETY: GNU's has had this signature under this name since GCC 4.9.
        Some(Self(unsafe { std::mem::transmute::<NonNull<c_void>, Function>(found) }))
    }

    #[cfg(not(target_os = "linux"))]
    fn find() -> Option<Self> {
        None
    }

    /// Until the gate opens.
    fn wait(self, gate: &Arc<Gate>, threads: c_uint) {
        #[expect(unsafe_code, reason = "there is no crate for it")]
        // SAFETY: `gate` lives until all threads have come back, which this call waits for, and is only read.
        unsafe {
            (self.0)(at_the_gate, Arc::as_ptr(gate).cast_mut().cast(), threads, 0);
        }
    }
}

#[cfg(target_os = "linux")]
fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    #[expect(unsafe_code, reason = "only the linker knows which OpenMP is there")]
    // SAFETY: the name ends with a zero.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

extern "C" fn at_the_gate(gate: *mut c_void) {
    #[expect(unsafe_code, reason = "what C hands through")]
    // SAFETY: `Parallel::wait` gives a gate that lives as long as this call.
    let gate = unsafe { &*gate.cast::<Gate>() };
    let mut open = gate.open.lock();
    while !*open {
        gate.opened.wait(&mut open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: bool = false;

    #[test]
    fn after_a_disturbance_it_is_short_for_a_while_and_longer_each_time() {
        let mut judge = Judge::default();
        let mut short = |disturbed| {
            assert!(judge.short(disturbed));
            let mut looks = 1;
            while judge.short(QUIET) {
                looks += 1;
            }
            looks
        };
        assert_eq!([short(true), short(true), short(true)], [10, 20, 40]);
        for _ in 0..10 {
            short(true);
        }
        assert_eq!(short(true), MOST);
        for _ in 0..FIRST {
            assert!(!judge.short(QUIET));
        }
        assert!((1..FIRST).all(|_| judge.short(true)) && judge.short(true) && !judge.short(QUIET), "it begins anew");
    }

    #[test]
    fn one_thread_of_many_that_waits_for_a_core_is_enough() {
        let last = Times { ran: 5, waited: 3 };
        let now = |ran: u64, waited: u64| Times { ran: last.ran + ran * ENOUGH, waited: last.waited + waited * ENOUGH };
        assert!(now(8, 1).disturbed(last) && !now(10, 1).disturbed(last));
        assert!(now(0, 1).disturbed(last), "it did not come to run at all");
        assert!(!Times { waited: last.waited + ENOUGH / 2, ..last }.disturbed(last), "too little to tell");
        assert!(!last.disturbed(now(8, 1)), "another thread has its number now");
    }

    #[test]
    fn times_are_read_of_each_thread() {
        let folder = tempfile::tempdir().unwrap();
        assert!(times(folder.path()).is_empty(), "If you are here because this failed: who tells nothing is taken for undisturbed.");
        for (task, told) in [("1", "500 20 3\n"), ("2", "what?")] {
            fs::create_dir(folder.path().join(task)).unwrap();
            fs::write(folder.path().join(task).join("schedstat"), told).unwrap();
        }
        // As one that has just ended.
        fs::create_dir(folder.path().join("3")).unwrap();
        assert_eq!(times(folder.path()), HashMap::from([("1".into(), Times { ran: 500, waited: 20 })]));
    }

    #[test]
    fn a_crowd_is_as_large_as_it_must_be() {
        assert_eq!([counted("0"), counted("0-3,8,10-11"), counted("3-1"), counted("")], [Some(1), Some(7), None, None]);
        for (cores, threads) in [(1, 1), (2, 2), (2, 1), (16, 4), (128, 128), (4, 8)] {
            let size = crowd_size(cores, threads);
            let managed = usize::try_from(threads).unwrap() + size - 1;
            assert!(size == 2 || managed == cores + 1, "{cores} cores, {threads} threads: {size}");
            assert!(managed > cores);
        }
    }

    const NAME: &str = "crowd of tests";

    /// Threads of this process that belong to the test's crowd, which have its name.
    #[cfg(target_os = "linux")]
    fn crowded() -> usize {
        let names = fs::read_dir(TASKS).unwrap().filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == NAME).count()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_crowd_comes_and_goes_home() {
        let until = |there: usize| {
            let begun = Instant::now();
            while crowded() != there && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(5));
            }
            crowded()
        };
        let parallel = Parallel::find().expect("If you are here because this failed: llama.cpp has another OpenMP, or none.");
        assert!(cores().is_some_and(|cores| cores > 0));
        for _ in 0..3 {
            let crowd = Crowd::gather(NAME, parallel, 3).unwrap();
            assert_eq!(until(3), 3);
            drop(crowd);
            assert_eq!(until(0), 0);
        }
    }
}
