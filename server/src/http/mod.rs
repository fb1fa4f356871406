//! HTTP: the router, its middleware and the plain routes. Handlers parse, call one service and render.

pub mod assets;
pub mod awake;
pub mod csrf;
pub mod docs;
pub mod edge;
pub mod export;
pub mod headers;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod pages;
pub mod problem;
pub mod registry;
pub mod request_id;
pub mod router;
pub mod session;
pub mod sse;
pub mod state;
mod trace;

pub use router::{PLAIN_ROUTES, router};
pub use state::AppState;
