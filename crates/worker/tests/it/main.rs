//! The worker as the pool sees it: over HTTP, with a real small model.
//!
//! The models lie in `$KONTOR_CACHE/models` (default `~/.cache/kontor/models`); `make setup` puts them there.

#![expect(clippy::disallowed_methods, reason = "tests find the models by the environment, and their tasks may be lost")]

mod answers;
mod bert;
mod cache;
mod cancel;
mod count;
mod fair;
mod harness;
mod kinds;
mod limits;
mod raw;
mod residence;
mod speculation;
mod start;
mod structure;
mod together;
mod tools;
mod vectors;
