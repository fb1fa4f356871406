//! One binary for all integration tests of the server.

mod app;
mod architecture;
mod authorisation_matrix;
mod bootstrap;
mod collector;
mod config;
mod export_charges;
mod faults;
mod funnel;
mod killed_node;
mod log_lines;
mod reconcile;
mod remote;
mod residence;
mod routes;
mod traces;
mod upstream_keys;
mod verify_audit;
mod world;
