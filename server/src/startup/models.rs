//! The configured models as the funnel wants them: catalogue, and one worker process for each.

use crate::config::{Config, Model, foreign_variable};
use inference::{Catalogue, CatalogueError, ModelConfig, Pool, Upstream, UpstreamModel, pool::WorkerProcess};
use std::{ffi::OsString, path::Path, time::Duration};

/// Variables of our own environment that a worker needs: where libraries and temporary files are. No secrets.
const PASSED_ON: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME"];

/// OpenMP's threads spin at the end of every operation by default. Where a worker shares its cores with anything
/// else, the one that spins keeps the one that works from running, and inference gets ten times slower (measured;
/// docs/PERFORMANCE.md). A short spin costs an undisturbed worker nothing. The library reads it when it is loaded,
/// so the parent has to set it.
const SHORT_SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// The catalogue of all offered models.
///
/// # Errors
/// Everything that is wrong with them.
pub fn catalogue(config: &Config) -> Result<Catalogue, CatalogueError> {
    let model = |model: &Model| ModelConfig {
        id: model.id.clone(),
        name: model.name.clone(),
        description: model.description.clone(),
        context_length: model.context_length(&config.workers),
        fallback: model.fallback.clone(),
        default: model.default,
        purposes: Vec::new(),
        tenants: None,
    };
    Catalogue::new(config.models.offered.iter().map(model).collect())
}

/// Starts one worker for each model: this very executable with `worker`. Returns at once; the models load
/// while everything else starts.
///
/// # Errors
/// The path of the executable is unknown.
pub fn start_workers(config: &Config, pool: &Pool) -> std::io::Result<()> {
    if !config.workers.enabled {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let ours = config.models.offered.iter().filter_map(|model| Some((model, model.path.as_deref()?)));
    for (index, (model, path)) in ours.enumerate() {
        pool.supervise(WorkerProcess {
            name: format!("worker-{}", index + 1),
            model: model.id.clone(),
            program: program.clone(),
            args: arguments(model, path, config),
            env: environment(),
        });
    }
    Ok(())
}

/// Adds the configured upstreams to the pool.
///
/// # Errors
/// A certificate file cannot be read, or no HTTP client can be made.
pub fn add_upstreams(config: &Config, pool: &Pool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for upstream in &config.upstreams {
        let models = config.models.offered.iter().filter_map(|model| {
            let upstream_id = upstream.models.get(&model.id)?.clone();
            Some(UpstreamModel { id: model.id.clone(), upstream_id, context_length: model.context_length(&config.workers) })
        });
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        pool.add_upstream(Upstream {
            name: upstream.name.clone(),
            base_url: upstream.base_url.clone(),
            key: upstream.key.clone(),
            ca_pem: upstream.ca_file.as_deref().map(std::fs::read).transpose()?,
            order: upstream.order,
            slots: upstream.slots,
            models: models.collect(),
            connect: seconds(upstream.connect_seconds),
            first: seconds(upstream.first_seconds),
            idle: seconds(upstream.idle_seconds),
        })?;
    }
    Ok(())
}

/// Model files that do not exist, for `kontor check` and a clear message at the start.
#[must_use]
pub fn missing_files(config: &Config) -> Vec<&Path> {
    config.models.offered.iter().filter_map(|model| model.path.as_deref()).filter(|path| !path.is_file()).collect()
}

fn environment() -> Vec<(OsString, OsString)> {
    let passed_on = PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), foreign_variable(name)?)));
    let (name, short) = SHORT_SPIN;
    let spin = (name.into(), foreign_variable(name).unwrap_or_else(|| short.into()));
    passed_on.chain([spin]).collect()
}

fn arguments(model: &Model, path: &Path, config: &Config) -> Vec<OsString> {
    let workers = &config.workers;
    let mut arguments: Vec<OsString> = vec!["worker".into(), "--model".into(), path.into()];
    let mut option = |name: &str, value: String| arguments.extend([OsString::from(name), OsString::from(value)]);
    option("--model-id", model.id.clone());
    option("--context-length", model.context_length(workers).to_string());
    option("--slots", model.slots(workers).to_string());
    option("--log", config.log.level.clone());
    option("--cache-type", workers.cache_type.clone());
    option("--gpu-layers", workers.gpu_layers.to_string());
    if workers.threads > 0 {
        option("--threads", workers.threads.to_string());
    }
    if workers.cells > 0 {
        option("--cells", workers.cells.to_string());
    }
    if workers.keep_cache {
        // A model's name may hold anything, a folder's not.
        let name: String = model.id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        arguments.extend(["--state-dir".into(), config.data_dir.join("prefix-cache").join(name).into_os_string()]);
    }
    if !workers.speculation {
        arguments.push("--no-speculation".into());
    }
    arguments
}
