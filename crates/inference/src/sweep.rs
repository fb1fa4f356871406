//! Settles what a killed process left open.

use crate::Inference;
use domain::Result;
use store::Reason;

impl Inference {
    /// Settles, as `swept`, every use of any tenant that is open for longer than `older_than_ms`. Returns how
    /// many.
    ///
    /// Choose more than [`crate::LONGEST_GENERATION`]: no living driver holds a use open for longer, so
    /// nothing that still runs is swept.
    ///
    /// # Errors
    /// [`domain::Error::Unavailable`] without a database.
    pub async fn sweep(&self, older_than_ms: i64) -> Result<u64> {
        self.inner.meter.sweep(Reason::Sweep, older_than_ms).await
    }
}
