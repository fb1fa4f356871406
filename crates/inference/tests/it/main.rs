//! The funnel against a real Postgres and scripted workers.

mod admission;
mod cache;
mod compile_fail;
mod count;
mod ends;
mod guard;
mod money;
mod pool;
mod setup;
mod supervisor;
mod upstreams;
mod vectors;
