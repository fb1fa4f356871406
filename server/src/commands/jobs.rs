//! `kontor jobs`: the background jobs alone, beside any number of `kontor serve --no-jobs`.

use crate::{
    AnyError,
    config::Config,
    log,
    startup::{database, models, product::Product, signals},
};
use inference::Pool;

/// Runs the jobs until a signal comes.
///
/// # Errors
/// Something that they need does not start.
pub async fn run(config: Config) -> Result<(), AnyError> {
    log::install(&config.log)?;
    let stop = signals::stop_on_signal()?;
    let catalogue = models::catalogue(&config)?;
    let server = database::Server::start(&config).await?;
    server.migrate().await?;
    let db = server.connect(&config).await?;
    // Jobs infer nothing: the pool stays empty.
    let product = Product::new(&config, db.clone(), catalogue, Pool::default());
    tracing::info!("the background jobs run");
    product.services.run_jobs(stop).await;
    db.close().await?;
    server.stop().await?;
    Ok(())
}
