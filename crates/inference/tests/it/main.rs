//! The funnel against a real Postgres and scripted workers.

mod admission;
mod cache;
mod classes;
mod classifier;
mod compile_fail;
mod count;
mod credentials;
mod dialects;
mod ends;
mod guard;
mod journal;
mod levels;
mod money;
mod periods;
mod pool;
mod reconcile;
mod refusals;
mod routing;
mod setup;
mod supervisor;
mod upstreams;
mod vectors;
