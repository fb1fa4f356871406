//! One file for each part of the address space.

mod assets;
mod csrf;
mod events;
mod export;
mod health;
mod limits;
mod metrics;
mod pages;
mod sign_in;
mod v1;
mod v1_cache;
mod v1_guardrails;
mod v1_messages;
mod v1_quotas;
mod v1_responses;
