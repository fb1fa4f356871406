//! How soon the kernel lets the threads run that answer requests, and how often it takes the core from them.

use std::io;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;

/// In nanoseconds; the shortest that the kernel takes.
const SLICE: u64 = 100_000;

/// Asks the kernel to let this thread run soon whenever it is woken, in return for short turns: its share of the processor
/// stays the same. What has a core for itself does not feel it. Where Postgres, a model or anything else computes on the same
/// cores, requests need not wait until that has had its turn of some milliseconds.
///
/// Threads and processes that this thread starts are as they would be without.
///
/// Linux from 6.12 on knows such wishes (`sched_attr::sched_runtime` of ordinary threads, EEVDF), older ones pass over them.
///
/// # Errors
/// The kernel does not allow it; nothing has changed then.
#[cfg(target_os = "linux")]
pub fn run_soon() -> io::Result<()> {
    let mut wish = attributes()?;
    // Whoever started us with another policy, as for batch jobs, knows why.
    if wish.sched_policy != POLICY_OTHER {
        return Ok(());
    }
    wish.sched_runtime = SLICE;
    wish.sched_flags |= RESET_ON_FORK;
    #[expect(unsafe_code, reason = "neither the standard library nor a crate that we have wraps this call")]
    // SAFETY: the kernel reads `size` bytes from the pointer, which is that of a whole structure of just this size.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&wish), 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Elsewhere there is nothing to ask.
#[cfg(not(target_os = "linux"))]
pub fn run_soon() -> io::Result<()> {
    Ok(())
}

/// How often the kernel took the core from this thread for somebody else while the thread had something to do; 0 where it
/// does not tell.
#[cfg(target_os = "linux")]
#[must_use]
pub fn taken() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    #[expect(unsafe_code, reason = "neither the standard library nor a crate that we have wraps this call")]
    // SAFETY: the kernel writes a whole structure to the pointer and is read from only where it says that it did.
    let switches = unsafe { (libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) == 0).then(|| usage.assume_init().ru_nivcsw) };
    switches.and_then(|switches| switches.try_into().ok()).unwrap_or(0)
}

/// Elsewhere nobody tells.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn taken() -> u64 {
    0
}

#[cfg(target_os = "linux")]
const POLICY_OTHER: u32 = libc::SCHED_OTHER.cast_unsigned();
#[cfg(target_os = "linux")]
const RESET_ON_FORK: u64 = libc::SCHED_FLAG_RESET_ON_FORK.cast_unsigned() as u64;

/// How the kernel treats this thread.
#[cfg(target_os = "linux")]
fn attributes() -> io::Result<libc::sched_attr> {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "neither the standard library nor a crate that we have wraps this call")]
    // SAFETY: the kernel writes at most `SIZE` bytes to the pointer, which is that of a structure of just this size.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, std::ptr::from_mut(&mut attributes), SIZE, 0) };
    if got == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{SLICE, attributes, run_soon, taken};
    use std::{
        fs, thread,
        time::{Duration, Instant},
    };

    /// Whether the kernel tells and takes slices of ordinary threads.
    fn knows_slices() -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(12))
    }

    #[test]
    fn a_thread_asks_for_itself_alone() {
        let (mine, of_child) = thread::spawn(|| {
            run_soon().expect("allowed");
            let child = thread::spawn(|| attributes().expect("told").sched_runtime);
            (attributes().expect("told"), child.join().expect("no panic"))
        })
        .join()
        .expect("no panic");
        assert_eq!(mine.sched_nice, attributes().expect("told").sched_nice);
        if knows_slices() {
            assert_eq!(mine.sched_runtime, SLICE);
        }
        assert_ne!(
            of_child, SLICE,
            "If you are here because this failed: Postgres and the models inherit the wish, and then nobody runs sooner than others."
        );
    }

    /// As many threads that never let go as there are cores, and one more.
    #[test]
    fn it_counts_how_often_others_got_the_core() {
        let cores = thread::available_parallelism().expect("told").get();
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..=cores {
                scope.spawn(|| {
                    while taken() == 0 {
                        assert!(begun.elapsed() < Duration::from_secs(60), "if you are here because this failed: it counts nothing");
                    }
                });
            }
        });
    }
}
