//! How long the threads that compute look for each other at the end of an operation before they sleep.
//!
//! A step has hundreds of operations, and after each of them the threads wait for the slowest. Who looks for long goes on at
//! once; but where others want the same cores, it keeps from running what it waits for, and a model gets ten times slower
//! (docs/PERFORMANCE.md). So they look for long as long as they have the cores to themselves, and for a short time while they
//! have to wait for one, which the kernel tells (`schedstat`: nanoseconds that a thread ran, and that it was ready to).
//!
//! GNU's OpenMP reads both times when it is loaded ([`worker_protocol::SPIN`]), and takes the short one while it has more
//! threads than there are cores (`gomp_throttled_spin_count_var` in libgomp's `wait.h`). There is no other way to tell it, so
//! for the short one a further team of threads is there, asleep. Other OpenMP libraries are left as they are.

use std::ffi::{c_uint, c_void};
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// From one look at the threads' times to the next.
const PERIOD: Duration = Duration::from_millis(200);
/// In nanoseconds. What ran for less tells nothing.
const ENOUGH: u64 = 20_000_000;
/// They have to wait for a core for more than this part of the time that they run, one in so many.
const DISTURBED: u64 = 10;
/// Looks without a disturbance after which they have the cores to themselves again.
const QUIET: u32 = 10;
const TASKS: &str = "/proc/self/task";

/// See the module. One for all engines of the process.
pub struct Spin(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    looked: Option<Instant>,
    last: Option<Times>,
    judge: Judge,
    /// While it is there, threads look for a short time.
    crowd: Option<Crowd>,
}

impl Spin {
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Spin> = OnceLock::new();
        HERE.get_or_init(|| Self(Mutex::default()))
    }

    /// To be called after each step; looks at the threads once in a while.
    pub fn stepped(&self) {
        // Another engine is looking.
        let Some(mut inner) = self.0.try_lock() else { return };
        if inner.looked.is_some_and(|looked| looked.elapsed() < PERIOD) {
            return;
        }
        inner.looked = Some(Instant::now());
        let short = match Times::of(Path::new(TASKS)) {
            Ok(times) => {
                let since = inner.last.replace(times).and_then(|last| times.since(last));
                since.map_or(inner.crowd.is_some(), |since| inner.judge.short(since))
            }
            // Where nobody tells, the careful way.
            Err(_) => true,
        };
        if short != inner.crowd.is_some() {
            tracing::debug!(short, "how long computing threads look for each other");
            inner.crowd = if short { Crowd::gather("crowd") } else { None };
        }
    }
}

/// Of all threads of the process together, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    ran: u64,
    waited: u64,
}

impl Times {
    fn of(tasks: &Path) -> io::Result<Self> {
        let mut times = Self { ran: 0, waited: 0 };
        for task in fs::read_dir(tasks)? {
            // It may have ended meanwhile. If no thread tells, the kernel does not.
            let Ok(told) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let mut numbers = told.split_whitespace().map_while(|number| number.parse::<u64>().ok());
            let (Some(ran), Some(waited)) = (numbers.next(), numbers.next()) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "schedstat has no two numbers"));
            };
            times.ran += ran;
            times.waited += waited;
        }
        if times.ran == 0 { Err(io::ErrorKind::Unsupported.into()) } else { Ok(times) }
    }

    /// `None` if a thread ended meanwhile, which takes its times with it, or if nothing was computed.
    fn since(self, last: Self) -> Option<Self> {
        let (ran, waited) = (self.ran.checked_sub(last.ran)?, self.waited.checked_sub(last.waited)?);
        (ran >= ENOUGH).then_some(Self { ran, waited })
    }
}

/// Short at the first disturbance, long after a while without one.
#[derive(Debug, Default)]
struct Judge {
    short: bool,
    /// Looks in a row without a disturbance.
    quiet: u32,
}

impl Judge {
    fn short(&mut self, since: Times) -> bool {
        if since.waited > since.ran / DISTURBED {
            *self = Self { short: true, quiet: 0 };
        } else {
            self.quiet = self.quiet.saturating_add(1);
            self.short &= self.quiet < QUIET;
        }
        self.short
    }
}

/// A team of threads that do nothing: one more than there are cores.
struct Crowd(Arc<Gate>);

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Crowd {
    /// `None` where OpenMP is not GNU's, or no thread can be had.
    fn gather(name: &str) -> Option<Self> {
        let parallel = Parallel::find()?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let lead = move || parallel.wait(&held, c_uint::try_from(cores + 1).unwrap_or(c_uint::MAX));
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
struct Parallel(unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint));

impl Parallel {
    #[cfg(target_os = "linux")]
    fn find() -> Option<Self> {
        #[expect(unsafe_code, reason = "asks the linker for a symbol that other OpenMP libraries do not have")]
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr()) };
        if found.is_null() {
            return None;
        }
        #[expect(unsafe_code, reason = "the linker does not know what a symbol is")]
        // SAFETY: this name has had this signature since GCC 4.9, and it is not null.
        Some(Self(unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint)>(found)
        }))
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

    fn since(waited_of_hundred: u64) -> Times {
        Times { ran: 100 * ENOUGH, waited: waited_of_hundred * ENOUGH }
    }

    #[test]
    fn one_disturbance_makes_it_short_and_a_while_without_one_long_again() {
        let mut judge = Judge::default();
        assert!(!judge.short(since(9)));
        assert!(judge.short(since(11)));
        for _ in 1..QUIET {
            assert!(judge.short(since(0)));
        }
        assert!(!judge.short(since(0)), "the cores are ours again");
        assert!(judge.short(since(50)));
        assert!(judge.short(since(0)), "it counts anew");
    }

    #[test]
    fn times_of_threads_are_added_up_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        for (task, told) in [("1", "500 20 3\n"), ("2", "1500 5 9\n")] {
            fs::create_dir(folder.path().join(task)).unwrap();
            fs::write(folder.path().join(task).join("schedstat"), told).unwrap();
        }
        // As one that has just ended.
        fs::create_dir(folder.path().join("3")).unwrap();
        assert_eq!(Times::of(folder.path()).unwrap(), Times { ran: 2000, waited: 25 });
        fs::write(folder.path().join("1/schedstat"), "what?").unwrap();
        assert!(Times::of(folder.path()).is_err());
        assert!(Times::of(tempfile::tempdir().unwrap().path()).is_err(), "nobody tells");
        let (before, after) = (Times { ran: ENOUGH, waited: 7 }, Times { ran: 3 * ENOUGH, waited: 9 });
        assert_eq!(after.since(before), Some(Times { ran: 2 * ENOUGH, waited: 2 }));
        assert_eq!(before.since(before), None, "too little");
        assert_eq!(before.since(after), None, "a thread ended");
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
    fn a_crowd_is_larger_than_the_cores_and_goes_home() {
        let until = |there: usize| {
            let begun = Instant::now();
            while crowded() != there && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(5));
            }
            crowded()
        };
        for _ in 0..3 {
            let crowd = Crowd::gather(NAME).expect("If you are here because this failed: llama.cpp has another OpenMP, or none.");
            let cores = thread::available_parallelism().unwrap().get();
            assert_eq!(until(cores + 1), cores + 1);
            drop(crowd);
            assert_eq!(until(0), 0);
        }
    }
}
