//! Waiting for what takes its time.

use std::time::{Duration, Instant};

/// Waits for something to become true.
///
/// # Panics
/// It did not within so many seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, seconds: u64, mut check: impl FnMut() -> F) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < Duration::from_secs(seconds), "did not happen within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
