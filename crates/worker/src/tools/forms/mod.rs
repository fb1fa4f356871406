//! Ways of writing calls. Each takes what stands between the marks, and gives `None` if it is anything else.

pub mod gemma;
pub mod objects;
pub mod python;
pub mod sections;
pub mod tags;

/// How deep values may lie in each other; what is deeper is no call. JSON has its own limit, which is a little higher.
const DEPTH: usize = 64;
