//! The services against a real Postgres and a worker that does what a test scripts.

mod account;
mod audit;
mod batch_deaths;
mod batches;
mod branches;
mod charges;
mod chats;
mod content_filter;
mod files;
mod guardrails;
mod isolation;
mod ledger;
mod prices;
mod recovery;
mod responses;
mod search;
mod temporary;
mod transfer;
mod turns;
mod upstream_credentials;
mod usage;
mod world;
mod zones;
