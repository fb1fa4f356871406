//! Ends on request: SIGTERM from a service manager, SIGINT from a terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second one ends the process at once, for people
/// who do not want to wait.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    // Lives as long as the process: nothing has to wait for it.
    #[expect(clippy::disallowed_methods, reason = "a process-wide listener outside any request")]
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            asked.cancel();
        }
    });
    Ok(stop)
}

/// Each SIGHUP, which from now on does not end the process any more.
///
/// # Errors
/// The handler cannot be installed.
pub fn hang_ups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
