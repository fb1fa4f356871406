//! `kontor migrate`: brings the schema up to date and ends.

use crate::{AnyError, config::Config, log, startup::database};

/// Starts the embedded Postgres if none is configured, migrates, stops it again.
///
/// # Errors
/// The database cannot be reached or a step fails.
pub async fn run(config: &Config) -> Result<(), AnyError> {
    log::install(&config.log)?;
    let server = database::Server::start(config).await?;
    let outcome = server.migrate().await;
    server.stop().await?;
    outcome?;
    super::print("The database is up to date.");
    Ok(())
}
