//! Calls of tools and thoughts in what a model writes. Each family of templates has its own words for them.
//!
//! ```text
//! family.rs    which family a template belongs to, and the marks around its calls
//! thoughts.rs  the marks around thoughts, and around the answer
//! parser.rs    splits an answer while it is written: marks.rs at marks, channels.rs at Harmony's headers
//! calls.rs     from what stands between the marks to calls; forms/ one file for each way of writing them
//! grammar.rs   what an answer must match that has to call a tool
//! ```

mod calls;
mod channels;
mod family;
mod forms;
mod grammar;
mod marks;
mod parser;
#[cfg(test)]
mod samples;
mod thoughts;

pub use family::Family;
pub use grammar::{after_thoughts, forced};
pub use parser::{Part, Reader, parser};
pub use thoughts::Thoughts;
