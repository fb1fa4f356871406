//! Memory that a rush of requests has taken goes back to the system.

use std::{hint::black_box, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A process at rest has given back all that it can about so long after the rush.
const PAUSE: Duration = Duration::from_secs(5);
/// In bytes. The allocator keeps nothing of this size at hand for later.
const LARGE: usize = 1 << 20;

/// Gives back until asked to stop.
///
/// The allocator hands over what has been free for a second, but looks for it only when it takes or gives a whole page. A
/// process at rest does neither, and would keep what its last busy moments have used. Something large is a page of its own;
/// nothing is written to it, so that it costs no memory itself.
pub async fn give_back(stop: CancellationToken) {
    let giving = async {
        loop {
            sleep(PAUSE).await;
            drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        }
    };
    let _: Option<()> = stop.run_until_cancelled(giving).await;
}
