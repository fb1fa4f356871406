//! A backend cannot be asked without a ticket.

use inference::pool::Backend;
use worker_protocol::Generate;

async fn free_lunch(backend: &dyn Backend, request: Generate) {
    let _ = backend.generate(request).await;
}

fn main() {}
