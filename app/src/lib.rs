//! The interface: rendered on the server (feature `ssr`), taken over in the browser (feature
//! `hydrate`). Both sides run the same components; what only one side can do is behind its feature.
#![recursion_limit = "256"]

pub mod account;
pub mod chat;
#[cfg(feature = "ssr")]
pub mod edge;
pub mod error;
pub mod i18n;
mod lazy;
mod routes;
pub mod search;
mod shell;
pub mod sign_in;
pub mod ui;
pub mod viewer;

pub use chat::prepare;
pub use error::UiError;
pub use routes::App;
pub use shell::shell;
