//! `kontor check`: tries everything that `serve` needs and reports all that is wrong at once.

use crate::{
    AnyError,
    config::Config,
    http::assets::Site,
    startup::{database, models},
};
use std::{net::SocketAddr, process::ExitCode};
use tokio::net::TcpListener;
use worker_protocol::tls::Identity;

/// Prints one line for each thing checked; the exit code tells whether all is well. Changes nothing but that it
/// starts the embedded Postgres for the time of the check.
///
/// # Errors
/// Never for what it finds: that is its result.
pub async fn run(config: &Config) -> Result<ExitCode, AnyError> {
    let mut report = Report::default();
    // Reaching this line means that the configuration was read without a mistake.
    report.add("configuration", Ok("valid".into()));
    report.add("interface", Site::find(config.server.site_root.as_deref()).map(|site| site.options.site_root.to_string()));
    report.add("models", model_files(config));
    report.add("web address", free(config.server.addr).await);
    if config.metrics.enabled {
        report.add("metrics address", free(config.metrics.addr).await);
    }
    if let Some(port) = config.pool.port() {
        report.add("address for workers", free(port.addr).await);
        report.add("certificates", Identity::read(port.cert, port.key, port.ca).map(|_| "readable".into()).map_err(Into::into));
    }
    report.add("data folder", writable(config));
    report.add("database", database(config).await);
    super::print(&report.text);
    Ok(if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    text: String,
    wrong: u32,
}

impl Report {
    fn add(&mut self, what: &str, found: Result<String, AnyError>) {
        let (mark, text) = match found {
            Ok(text) => ("ok   ", text),
            Err(error) => {
                self.wrong += 1;
                ("WRONG", error.to_string())
            }
        };
        self.text.push_str(&format!("{mark} {what}: {text}\n"));
    }
}

fn model_files(config: &Config) -> Result<String, AnyError> {
    models::catalogue(config)?;
    let missing: Vec<String> = models::missing_files(config).iter().map(|path| path.display().to_string()).collect();
    if missing.is_empty() {
        Ok(format!("{} offered", config.models.offered.len()))
    } else {
        Err(format!("these files do not exist: {}", missing.join(", ")).into())
    }
}

/// The address can be listened on; one that a running Kontor holds is reported as such.
async fn free(addr: SocketAddr) -> Result<String, AnyError> {
    match TcpListener::bind(addr).await {
        Ok(_) => Ok(addr.to_string()),
        Err(error) => Err(format!("cannot listen on {addr} ({error}); is Kontor running already?").into()),
    }
}

fn writable(config: &Config) -> Result<String, AnyError> {
    let probe = config.data_dir.join(".check");
    std::fs::create_dir_all(&config.data_dir)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| format!("{} cannot be written: {error}", config.data_dir.display()))?;
    Ok(config.data_dir.display().to_string())
}

async fn database(config: &Config) -> Result<String, AnyError> {
    let server = database::Server::start(config).await?;
    let found = async {
        let pending = server.pending().await?;
        if !pending.is_empty() {
            return Ok(format!("answers; {} migration(s) will run at the next start", pending.len()));
        }
        let db = server.connect(config).await?;
        db.ping().await?;
        db.close().await?;
        Ok("answers; schema up to date".to_owned())
    }
    .await;
    server.stop().await?;
    found
}
