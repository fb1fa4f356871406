//! `kontor check`: tries everything that `serve` needs and reports all that is wrong at once.

use crate::{
    AnyError,
    config::Config,
    http::assets::Site,
    startup::{database, files, master_key::MasterKeyFile, models},
};
use inference::Pool;
use services::{UpstreamCredentials, upstream_credentials::Checked};
use std::{net::SocketAddr, path::Path, process::ExitCode, sync::Arc};
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
    match database(config).await {
        Ok((found, keys)) => {
            report.add("database", Ok(found));
            report.add("keys of upstreams", opened(&keys));
            report.warn("keys of upstreams", unknown(config, &keys));
        }
        Err(error) => report.add("database", Err(error)),
    }
    report.warn("secrets", open_to_all(config));
    super::print(&report.text);
    Ok(if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    text: String,
    wrong: u32,
}

impl Report {
    /// What is no fault, but should not stay so.
    fn warn(&mut self, what: &str, found: Vec<String>) {
        for text in found {
            self.text.push_str(&format!("warn  {what}: {text}\n"));
        }
    }

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

/// How the database fares, and the keys of upstreams that it keeps.
async fn database(config: &Config) -> Result<(String, Vec<Checked>), AnyError> {
    let server = database::Server::start(config).await?;
    let found = async {
        let pending = server.pending().await?;
        if !pending.is_empty() {
            return Ok((format!("answers; {} migration(s) will run at the next start", pending.len()), Vec::new()));
        }
        let db = server.connect(config).await?;
        db.ping().await?;
        // No upstream is asked anything here, so the pool stays empty.
        let keys = UpstreamCredentials::new(db.clone(), Pool::default(), Arc::new(MasterKeyFile::of(config))).check().await?;
        db.close().await?;
        Ok(("answers; schema up to date".to_owned(), keys))
    }
    .await;
    server.stop().await?;
    found
}

/// Whether the kept keys can be opened here.
fn opened(keys: &[Checked]) -> Result<String, AnyError> {
    let faults: Vec<String> =
        keys.iter().filter_map(|key| Some(format!("{} cannot be opened: {}", key.upstream, key.fault.as_ref()?))).collect();
    if faults.is_empty() { Ok(format!("{} kept, each can be opened", keys.len())) } else { Err(faults.join("; ").into()) }
}

/// Kept keys of upstreams that the configuration does not have.
fn unknown(config: &Config, keys: &[Checked]) -> Vec<String> {
    let unknown = keys.iter().filter(|key| !config.upstreams.iter().any(|upstream| upstream.name == key.upstream));
    unknown.map(|key| format!("{} has a key in the database and is not in the configuration", key.upstream)).collect()
}

/// Secrets in files that every user of this machine may read.
fn open_to_all(config: &Config) -> Vec<String> {
    let told = |path: &Path, what: &str| {
        files::is_open_to_all(path).then(|| format!("{} holds {what}, and every user of this machine may read it", path.display()))
    };
    let plain: Vec<&str> = config.upstreams.iter().filter(|one| one.has_plain_key()).map(|one| one.name.as_str()).collect();
    let file = config.file.as_deref().filter(|_| !plain.is_empty());
    let file = file.and_then(|file| told(file, &format!("the key of {} in plain text", plain.join(", "))));
    let key_files = config.upstreams.iter().flat_map(|one| [(&one.key_file, &one.name), (&one.cache_salt_key_file, &one.name)]);
    let key_files = key_files.filter_map(|(file, name)| told(file.as_deref()?, &format!("a key of {name}")));
    let master = told(MasterKeyFile::of(config).path(), "the master key");
    file.into_iter().chain(key_files).chain(master).collect()
}

#[cfg(test)]
mod tests {
    use super::{Checked, open_to_all, opened, unknown};
    use crate::config::{Config, Sources};
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    const UPSTREAM: &str = "[[models.offered]]\nid = \"m\"\n[[upstreams]]\nname = \"vllm\"\nbase_url = \"https://llm.example.org/v1\"\n\
                            models = { m = \"m\" }\n";

    #[test]
    fn secrets_that_everybody_may_read_are_told_of_by_name_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, master] = ["kontor.toml", "master.key"].map(|name| folder.path().join(name));
        fs::write(&file, format!("[secrets]\nmaster_key_file = {master:?}\n{UPSTREAM}key = \"sk-plain\"\n")).expect("a configuration");
        fs::write(&master, "00").expect("a file");
        let config = Config::load(&Sources { file: Some(file.clone()), env: Vec::new() }).expect("valid");
        let mut told = Vec::new();
        for mode in [0o600, 0o644] {
            for path in [&file, &master] {
                fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
            }
            told.push(open_to_all(&config));
        }
        assert_eq!(told[0], Vec::<String>::new());
        assert!(told[1].len() == 2 && told[1][0].contains("the key of vllm in plain text"), "{told:?}");
        assert!(told[1][1].contains("the master key") && !told[1].join("").contains("sk-plain"), "{told:?}");

        let key = |upstream: &str, fault: Option<&str>| Checked { upstream: upstream.into(), fault: fault.map(Into::into) };
        assert_eq!(unknown(&config, &[key("vllm", None), key("gone", None)]).len(), 1);
    }

    #[test]
    fn a_key_that_cannot_be_opened_is_wrong() {
        let key = |fault: Option<&str>| Checked { upstream: "vllm".into(), fault: fault.map(Into::into) };
        assert!(opened(&[]).is_ok() && opened(&[key(None)]).is_ok());
        let wrong = opened(&[key(None), key(Some("sealed with another"))]).expect_err("wrong").to_string();
        assert_eq!(wrong, "vllm cannot be opened: sealed with another");
    }
}
