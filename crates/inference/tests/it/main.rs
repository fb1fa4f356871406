//! The funnel against a real Postgres and scripted workers.

mod admission;
mod compile_fail;
mod count;
mod ends;
mod guard;
mod money;
mod pool;
mod reconcile;
mod setup;
mod supervisor;
mod upstreams;
mod vectors;
