//! From configuration to running parts.

pub mod bootstrap;
pub mod database;
pub mod files;
pub mod master_key;
pub mod memory;
pub mod models;
pub mod product;
pub mod sharing;
pub mod signals;
pub mod threads;
pub mod traces;
