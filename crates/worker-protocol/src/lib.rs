//! Messages between the pool and a worker.
//!
//! Transport: HTTP/2, JSON bodies. Every call carries `Authorization: Bearer <token>`; the token is
//! random per worker process. A worker beside its pool gets it through its standard input, never through arguments or
//! the environment; one on another machine tells it when it registers ([`registration`]), and both sides authenticate
//! each other with certificates ([`tls`]).
//!
//! | call | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `POST /generate` with [`Generate`] | newline-delimited [`Event`]s, ended by exactly one [`Event::Done`] or [`Event::Failed`] |
//! | `POST /embed` with [`Embed`] | likewise |
//! | `POST /count` with [`Generate`] | [`Counted`] |
//! | `POST /cancel` with [`Cancel`] | nothing; the answer that it ends closes with [`FailCode::Cancelled`] and the last counters |
//!
//! Closing the response stream cancels as well: the worker frees the sequence before its next decode step. But then nobody
//! hears what was computed meanwhile, so it is for those who have no choice: a pool whose process ends.

#[cfg(target_family = "wasm")]
compile_error!("`worker-protocol` is server-only");

mod event;
mod image;
pub mod registration;
mod request;
mod status;
pub mod tls;
mod vectors;

pub use event::{Counted, Event, FailCode, Finish, Timings, TokenLogprob, Usage};
pub use image::{ContentPart, DataUrl, Detail, Image};
pub use request::{Cancel, ChatMessage, ChatRole, Embed, EmbedInput, Format, Generate, Priority, Tool, ToolCall, ToolChoice};
pub use status::{Device, Hello, LoadedModel, ModelKind, ModelState, State, Status, Totals};
pub use vectors::normalised;

/// A variable of the environment that a worker's process starts with, unless somebody has set it: how often computing threads
/// look for each other before they sleep, while they have the cores to themselves. OpenMP reads it when it is loaded, so
/// it must be there before. Where the worker cannot choose less when they have not, [`SHORT_SPIN`] belongs there.
pub const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// See [`SPIN`].
pub const SHORT_SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// Version of this protocol; a pool refuses a worker with another one.
pub const PROTOCOL: u32 = 8;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
