//! Asking a member how long a prompt is.

use super::{Pool, affinity::Beginnings, backend::BackendError};
use crate::meter::RETRY_AFTER_S;
use domain::Error;
use worker_protocol::{Counted, Generate};

impl Pool {
    /// Any member that has the model tells the same.
    pub(crate) async fn count(&self, prompt: &Generate) -> Result<Counted, Error> {
        let lease = self.lease(&prompt.model, &Beginnings::default(), &[]).await?;
        match lease.backend.count(prompt).await {
            Ok(counted) => Ok(counted),
            Err(error @ (BackendError::Lost(_) | BackendError::Failing(_))) => {
                tracing::warn!(worker = lease.member.name, %error, "a prompt could not be counted");
                if matches!(error, BackendError::Lost(_)) {
                    lease.suspect();
                }
                Err(Error::unavailable("model", Some(RETRY_AFTER_S)))
            }
            Err(error) => Err(Error::internal(error)),
        }
    }
}
