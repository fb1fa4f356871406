//! The configured models as the funnel wants them: catalogue, and worker processes.

use super::traces;
use crate::config::{Config, Model, foreign_variable};
use domain::DataClass;
use inference::{Catalogue, CatalogueError, ModelConfig, Pool, Upstream, UpstreamModel, pool::WorkerProcess};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Variables of our own environment that a worker needs: where libraries and temporary files are, which cards its
/// libraries may see, and where Vulkan's drivers are. No secrets.
const PASSED_ON: [&str; 8] =
    ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME", "CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// Characters of a model's name in a folder's, which may not be of any length.
const READABLE: usize = 100;
/// Bytes of its hash there.
const HASH_BYTES: usize = 6;

/// The catalogue of all offered models.
///
/// # Errors
/// Everything that is wrong with them.
pub fn catalogue(config: &Config) -> Result<Catalogue, CatalogueError> {
    let model = |model: &Model| ModelConfig {
        id: model.id.clone(),
        aliases: model.aliases.clone(),
        name: model.name.clone(),
        description: model.description.clone(),
        kind: model.kind,
        context_length: model.context_length(&config.workers),
        image_tokens: model.image_tokens(),
        fallback: model.fallback.clone(),
        default: model.default,
        purposes: model.purposes.clone(),
        tenants: model.tenants.clone(),
        zones: model.zones.clone(),
        highest_class: model.highest_class.unwrap_or(DataClass::Restricted),
    };
    Catalogue::new(config.models.offered.iter().map(model).collect())
}

/// Starts one worker for each model, or one for all that share their memory: this very executable with `worker`.
/// Returns at once; the models load while everything else starts.
///
/// # Errors
/// The path of the executable is unknown.
pub fn start_workers(config: &Config, pool: &Pool) -> std::io::Result<()> {
    if !config.workers.enabled {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let ours: Vec<&Model> = config.models.offered.iter().filter(|model| model.path.is_some()).collect();
    let at_a_time = if config.workers.memory_mib > 0 { ours.len().max(1) } else { 1 };
    let everywhere = [Vec::new()];
    let groups = if config.workers.cards.is_empty() { &everywhere[..] } else { &config.workers.cards };
    let workers = groups.iter().flat_map(|cards| ours.chunks(at_a_time).map(move |models| (cards, models)));
    for (number, (cards, models)) in (1..).zip(workers) {
        pool.supervise(WorkerProcess {
            name: format!("worker-{number}"),
            models: models.iter().map(|model| model.id.clone()).collect(),
            program: program.clone(),
            args: arguments(models, cards, config),
            env: environment(config),
        });
    }
    Ok(())
}

/// Adds the configured upstreams to the pool, and tells it how to choose.
///
/// # Errors
/// A certificate file cannot be read, or no HTTP client can be made.
pub fn add_upstreams(config: &Config, pool: &Pool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for model in &config.models.offered {
        pool.prefer(&model.id, model.prefer);
    }
    for upstream in &config.upstreams {
        let models = config.models.offered.iter().filter_map(|model| {
            let upstream_id = upstream.models.get(&model.id)?.clone();
            let (id, context_length) = (model.id.clone(), model.context_length(&config.workers));
            Some(UpstreamModel { cost: upstream.cost(&id), id, upstream_id, context_length })
        });
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        pool.add_upstream(Upstream {
            name: upstream.name.clone(),
            kind: upstream.kind(),
            base_url: upstream.base_url.clone(),
            key: upstream.key.clone(),
            ca_pem: upstream.ca_file.as_deref().map(std::fs::read).transpose()?,
            order: upstream.order,
            weight: upstream.weight,
            slots: upstream.slots,
            models: models.collect(),
            clearance: upstream.clearance(),
            length: upstream.length(),
            structured: upstream.structured_field,
            salt_key: upstream.cache_salt_key.clone(),
            believed: seconds(upstream.poll_seconds()),
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

fn environment(config: &Config) -> Vec<(OsString, OsString)> {
    let passed_on = PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), foreign_variable(name)?)));
    let (name, spins) = worker::spin();
    let spin = (name.into(), foreign_variable(name).unwrap_or_else(|| spins.into()));
    let traces = config.traces.target().map(|_| traces::environment());
    passed_on.chain([spin]).chain(traces.into_iter().flatten()).collect()
}

fn arguments(models: &[&Model], cards: &[usize], config: &Config) -> Vec<OsString> {
    let workers = &config.workers;
    let mut arguments: Vec<OsString> = vec!["worker".into()];
    let mut option = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
    for (at, model) in models.iter().enumerate() {
        let path = model.path.as_deref().unwrap_or(Path::new(""));
        let (length, slots) = (model.context_length(workers), model.slots(workers));
        let (layers, cells) = (model.gpu_layers(workers), model.cells(workers));
        let (cache_type, flash_attention) = (model.cache_type(workers), model.flash_attention(workers));
        let state_dir = workers.keep_cache.then(|| state_dir(model, cards, config));
        if at > 0 {
            // Everything is said: what a further model leaves out is as with the first one, not as configured for all.
            let more = json!({
                "id": model.id, "path": path, "pinned": model.pinned, "context_length": length, "slots": slots, "state_dir": state_dir,
                "gpu_layers": layers, "cells": cells, "cache_type": cache_type, "flash_attention": flash_attention,
            });
            option("--more", more.to_string().into());
            continue;
        }
        option("--model", path.into());
        option("--model-id", model.id.clone().into());
        option("--context-length", length.to_string().into());
        option("--slots", slots.to_string().into());
        option("--gpu-layers", layers.to_string().into());
        option("--cache-type", cache_type.into());
        option("--flash-attention", flash_attention.into());
        if cells > 0 {
            option("--cells", cells.to_string().into());
        }
        if let Some(folder) = state_dir {
            option("--state-dir", folder.into());
        }
    }
    option("--log", config.log.level.clone().into());
    if let Some(target) = config.traces.target() {
        option("--traces", target.into());
    }
    option("--queue-limit", workers.queue_limit.to_string().into());
    option("--cache-mib", workers.cache_mib.to_string().into());
    if !cards.is_empty() {
        option("--cards", cards.iter().map(usize::to_string).collect::<Vec<_>>().join(",").into());
    }
    option("--lock-dir", config.data_dir.join("loads").into());
    if workers.memory_mib > 0 {
        option("--memory-mib", workers.memory_mib.to_string().into());
        option("--residence-seconds", workers.residence_seconds.to_string().into());
    }
    if workers.threads > 0 {
        option("--threads", workers.threads.to_string().into());
    }
    if !workers.speculation {
        arguments.push("--no-speculation".into());
    }
    if models.first().is_some_and(|model| model.pinned) {
        arguments.push("--pinned".into());
    }
    arguments
}

/// Where a worker's prefix cache of a model is kept. The model's name may hold anything, a folder's not: the hash tells those
/// apart that are readable in the same way, and of which each would discard what the other one has saved.
fn state_dir(model: &Model, cards: &[usize], config: &Config) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let readable: String = model.id.chars().map(plain).take(READABLE).collect();
    let hash: String = Sha256::digest(&model.id).iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let cards: String = cards.iter().map(|card| format!("-card{card}")).collect();
    config.data_dir.join("prefix-cache").join(format!("{readable}-{hash}{cards}"))
}

#[cfg(test)]
mod tests {
    use super::{Config, Model, READABLE, arguments, state_dir};
    use crate::{cli::Cli, config::Sources};
    use clap::Parser;
    use serde_json::Value;
    use std::{collections::HashSet, ffi::OsString};

    fn config(toml: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kontor.toml");
        std::fs::write(&file, toml).expect("a file");
        Config::load(&Sources { file: Some(file), env: Vec::new() }).expect("valid")
    }

    /// What a worker for all models is told, which it understands.
    fn said(config: &Config, cards: &[usize]) -> Vec<String> {
        let models: Vec<&Model> = config.models.offered.iter().collect();
        let arguments = arguments(&models, cards, config);
        let parsed = Cli::try_parse_from([OsString::from("kontor")].iter().chain(&arguments));
        assert!(parsed.is_ok(), "{parsed:?}");
        arguments.into_iter().map(OsString::into_string).collect::<Result<_, _>>().expect("text")
    }

    /// What follows the option.
    fn value<'a>(arguments: &'a [String], option: &str) -> Option<&'a str> {
        let at = arguments.iter().position(|argument| argument == option)?;
        arguments.get(at + 1).map(String::as_str)
    }

    #[test]
    fn a_worker_is_told_what_is_configured() {
        let said = said(
            &config(
                "data_dir = \"/srv\"\n[workers]\ngpu_layers = 99\ncells = 4096\ncache_type = \"q8_0\"\nflash_attention = \"on\"\n\
                 queue_limit = 7\ncache_mib = 512\nkeep_cache = true\nspeculation = false\nthreads = 3\n\
                 [[models.offered]]\nid = \"m\"\npath = \"/models/m.gguf\"\nslots = 2\n",
            ),
            &[0, 2],
        );
        for (option, expected) in [
            ("--model", "/models/m.gguf"),
            ("--model-id", "m"),
            ("--slots", "2"),
            ("--gpu-layers", "99"),
            ("--cells", "4096"),
            ("--cache-type", "q8_0"),
            ("--flash-attention", "on"),
            ("--queue-limit", "7"),
            ("--cache-mib", "512"),
            ("--cards", "0,2"),
            ("--threads", "3"),
            ("--lock-dir", "/srv/loads"),
            ("--state-dir", "/srv/prefix-cache/m-62c66a7a5dd7-card0-card2"),
        ] {
            assert_eq!(value(&said, option), Some(expected), "{option} of {said:?}");
        }
        assert!(said.iter().any(|argument| argument == "--no-speculation"), "{said:?}");
    }

    #[test]
    fn no_two_models_keep_their_caches_in_one_folder() {
        let long = "m".repeat(READABLE * 2);
        let names = ["a/b", "a_b", "A_b", "..", ".", "m", "m-card0", "\u{e4}", "\u{f6}", &long, &format!("{long}m")].map(str::to_owned);
        let offered: String = names.iter().map(|id| format!("[[models.offered]]\nid = \"{id}\"\npath = \"/models/m.gguf\"\n")).collect();
        let config = config(&format!("data_dir = \"/srv\"\n{offered}"));
        let (mut folders, caches) = (HashSet::new(), config.data_dir.join("prefix-cache"));
        let groups: [&[usize]; 3] = [&[], &[0], &[0, 1]];
        for (model, cards) in config.models.offered.iter().flat_map(|model| groups.map(|cards| (model, cards))) {
            let folder = state_dir(model, cards, &config);
            let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            assert!(folder.parent() == Some(&*caches) && name.len() < 255, "{name}");
            assert!(
                folders.insert(name.to_lowercase()),
                "If you are here because this failed: two models discard each other's cache at every start: {name}."
            );
        }
    }

    #[test]
    fn a_model_may_be_set_apart_from_the_others() {
        let config = config(
            "[workers]\ngpu_layers = 99\ncache_type = \"q8_0\"\nmemory_mib = 6000\n\
             [[models.offered]]\nid = \"chat\"\npath = \"/models/chat.gguf\"\ncells = 16384\n\
             [[models.offered]]\nid = \"embedder\"\nkind = \"embedding\"\npath = \"/models/e.gguf\"\ngpu_layers = 0\n\
             cache_type = \"f16\"\nflash_attention = \"off\"\n",
        );
        let said = said(&config, &[]);
        assert_eq!(value(&said, "--gpu-layers"), Some("99"));
        assert_eq!(value(&said, "--cells"), Some("16384"));
        assert_eq!(value(&said, "--cache-type"), Some("q8_0"));
        assert_eq!(value(&said, "--cards"), None);
        let more: Value = serde_json::from_str(value(&said, "--more").expect("a further model")).expect("JSON");
        assert_eq!(more["id"], "embedder");
        assert_eq!(more["gpu_layers"], 0);
        assert_eq!(more["cells"], 0, "not those of the first model");
        assert_eq!(more["cache_type"], "f16");
        assert_eq!(more["flash_attention"], "off");
        serde_json::from_value::<worker::FurtherModel>(more).expect("what a worker understands");
    }
}
