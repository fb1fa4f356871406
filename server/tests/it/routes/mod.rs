//! One file for each part of the address space.

mod assets;
mod csrf;
mod deploy;
mod docs;
mod events;
mod export;
mod health;
mod limits;
mod metrics;
mod pages;
mod sign_in;
mod ui_deleted;
mod ui_keys;
mod ui_refusals;
mod v1;
mod v1_batches;
mod v1_cache;
mod v1_files;
mod v1_forms;
mod v1_guardrails;
mod v1_images;
mod v1_matrix;
mod v1_messages;
mod v1_quotas;
mod v1_responses;
mod v1_traces;
