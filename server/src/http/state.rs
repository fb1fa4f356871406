//! What handlers and middleware share.

use super::{awake::Awake, csrf::PublicHost, metrics::Metrics};
use app::edge::CookiePolicy;
use identity::Identity;
use inference::Inference;
use services::Services;
use std::sync::Arc;
use store::Db;
use telemetry::Tracer;

/// The built product, as the router needs it. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub db: Db,
    pub identity: Identity,
    pub inference: Inference,
    pub services: Services,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    pub cookies: CookiePolicy,
    pub public_host: PublicHost,
    /// Believe `X-Forwarded-For`.
    pub trust_proxy: bool,
    /// `None`: threads sleep as soon as there is nothing to do.
    pub awake: Option<Awake>,
}
