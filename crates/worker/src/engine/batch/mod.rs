//! What goes into one step: how many tokens, and whose.

pub mod budget;
pub mod schedule;
