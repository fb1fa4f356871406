//! Words shared by server and browser: ids, data transfer objects, turn events, problems.
//!
//! Rules of this crate: serde only (and behind the feature `openapi` the types' schemas), no I/O, fixed-width integers (`usize` differs between wasm32
//! and the server), instants as Unix milliseconds in UTC ([`Millis`]), so that neither side needs
//! a calendar to read the other.

pub mod account;
mod chain;
pub mod chat;
pub mod ids;
pub mod key;
pub mod model;
pub mod page;
pub mod problem;
pub mod title;
pub mod usage;

pub use chain::chain;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;
