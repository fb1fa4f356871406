//! The rules' vocabulary: who acts ([`Actor`]), what may be done ([`permission`]), how things fail
//! ([`Error`]) and what time it is ([`Clock`]). No I/O.

#[cfg(target_family = "wasm")]
compile_error!("`domain` is server-only; the browser shares `contract`");

pub mod actor;
pub mod clock;
pub mod error;
pub mod permission;
pub mod secret;

pub use actor::{Actor, Caller, Program};
pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use permission::Action;
