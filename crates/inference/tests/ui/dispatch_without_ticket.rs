//! A backend cannot be asked without a ticket.

use inference::{Work, pool::Backend};

async fn free_lunch(backend: &dyn Backend, work: &Work) {
    let _ = backend.start(work).await;
}

fn main() {}
