//! Asking a member how long a prompt is.

use super::{MOST_RETRIES, Pool, affinity::Beginnings, backend::BackendError};
use crate::{clearance::Bounds, meter::RETRY_AFTER_S};
use domain::Error;
use worker_protocol::{Counted, FailCode, Generate};

impl Pool {
    /// Any member within the bounds that has the model tells the same. Like with a completion, another one is asked if one is
    /// full, has no word for it, cannot or is lost. What it says to that tells nothing about completions: a server may have no
    /// call for it.
    pub(crate) async fn count(&self, prompt: &Generate, bounds: &Bounds) -> Result<Counted, Error> {
        self.count_request();
        let (mut avoid, mut refused, mut retries) = (Vec::new(), None, 0);
        loop {
            let lease = match self.lease(&prompt.model, bounds, &Beginnings::default(), &avoid).await {
                Ok(lease) => lease,
                // What one of them said says more.
                Err(error) => return refused.ok_or(error),
            };
            let member = lease.member.id;
            let error = match lease.backend.count(prompt).await {
                Ok(full @ Counted::Refused { code: FailCode::Overloaded, .. }) => {
                    refused.get_or_insert(full);
                    avoid.push(member);
                    continue;
                }
                Ok(counted) => return Ok(counted),
                Err(BackendError::Unfit(message)) => {
                    refused = Some(Counted::Refused { code: FailCode::Invalid, message });
                    avoid.push(member);
                    continue;
                }
                Err(error) => error,
            };
            tracing::warn!(worker = lease.member.name, %error, "a prompt could not be counted");
            match error {
                // A worker that died comes back, and is not asked before.
                BackendError::Lost(_) => lease.suspect(),
                BackendError::Failing(_) => avoid.push(member),
                error => return Err(Error::internal(error)),
            }
            if retries == MOST_RETRIES || !self.may_retry() {
                return Err(Error::unavailable("model", Some(RETRY_AFTER_S)));
            }
            retries += 1;
        }
    }
}
