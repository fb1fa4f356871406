//! Configuration: layers, secrets from files, and mistakes that name themselves.

use server::config::{Config, ConfigErrors, DEFAULT_TOML, Sources};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

fn load(toml: Option<&str>, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let folder = TempDir::new().expect("a folder");
    let file = toml.map(|text| {
        let path = folder.path().join("kontor.toml");
        fs::write(&path, text).expect("a file");
        path
    });
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(&Sources { file, env })
}

#[test]
fn nothing_configured_is_enough() {
    let config = load(None, &[("HOME", "/home/kim")]).expect("the defaults");
    assert_eq!(config.server.addr.to_string(), "127.0.0.1:3000");
    assert_eq!(config.metrics.addr.to_string(), "127.0.0.1:9464");
    assert_eq!(config.data_dir, PathBuf::from(".kontor"));
    assert_eq!(config.cache_dir, PathBuf::from("/home/kim/.cache/kontor"));
    let model = &config.models.offered[0];
    assert_eq!((model.id.as_str(), model.default), ("qwen2.5-coder-1.5b-instruct", true));
    assert_eq!(config.response_cache.memory(), 64 << 20);
    assert!(model.path.as_ref().is_some_and(|path| path.starts_with("/home/kim/.cache/kontor/models")));
}

#[test]
fn the_printed_defaults_are_a_valid_file() {
    load(Some(DEFAULT_TOML), &[]).expect("the printed defaults");
}

#[test]
fn later_layers_win() {
    let toml = "data_dir = \"/srv/kontor\"\n[server]\naddr = \"0.0.0.0:80\"\nshutdown_seconds = 3\n";
    let config = load(Some(toml), &[("KONTOR__SERVER__ADDR", "127.0.0.1:4000")]).expect("valid");
    assert_eq!(config.server.addr.to_string(), "127.0.0.1:4000");
    assert_eq!(config.server.shutdown_seconds, 3);
    assert_eq!(config.data_dir, PathBuf::from("/srv/kontor"));
}

#[test]
fn database_url_is_honoured_and_ours_comes_first() {
    let usual = ("DATABASE_URL", "postgres://usual/db");
    let url = |env: &[(&str, &str)]| load(None, env).expect("valid").database.url.map(|url| url.reveal().to_owned());
    assert_eq!(url(&[usual]).as_deref(), Some("postgres://usual/db"));
    assert_eq!(url(&[usual, ("KONTOR__DATABASE__URL", "postgres://ours/db")]).as_deref(), Some("postgres://ours/db"));
    assert_eq!(url(&[]), None);
}

#[test]
fn a_password_of_digits_stays_text() {
    let config = load(None, &[("KONTOR__BOOTSTRAP__PASSWORD", "123456789012")]).expect("valid");
    assert_eq!(config.bootstrap.password.expect("set").reveal(), "123456789012");
}

#[test]
fn secrets_come_from_files() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "correct horse battery\n").expect("a file");
    let file = file.to_string_lossy();
    let config = load(None, &[("KONTOR__BOOTSTRAP__PASSWORD_FILE", &file)]).expect("valid");
    assert_eq!(config.bootstrap.password.expect("read").reveal(), "correct horse battery");

    let both = load(None, &[("KONTOR__BOOTSTRAP__PASSWORD_FILE", &file), ("KONTOR__BOOTSTRAP__PASSWORD", "another password")]);
    assert!(both.expect_err("both").to_string().contains("give one of the two"));
    let missing = load(None, &[("KONTOR__BOOTSTRAP__PASSWORD_FILE", "/nowhere/at/all")]);
    assert!(missing.expect_err("missing").to_string().contains("/nowhere/at/all"));
}

#[test]
fn everything_wrong_is_reported_at_once_with_key_and_origin() {
    let toml = "colour = \"blue\"\n[server]\nadr = \"127.0.0.1:1\"\n[workers]\nslots = \"many\"\n";
    let errors = load(Some(toml), &[("KONTOR__LOG__FORMAT", "xml"), ("KONTOR__SERVER__PROT", "1")]).expect_err("five mistakes").0;
    let text = errors.join("\n");
    for (key, origin) in [
        ("`colour`", "kontor.toml"),
        ("`server.adr`", "kontor.toml"),
        ("`workers.slots`", "kontor.toml"),
        ("`log.format`", "KONTOR__LOG__FORMAT"),
        ("`server.prot`", "KONTOR__SERVER__PROT"),
    ] {
        assert!(
            errors.iter().any(|line| line.contains(key) && line.contains(origin)),
            "{key} from {origin} is missing in:\n{text}\nIf you are here because this failed: a mistyped key would be ignored silently."
        );
    }
    assert_eq!(errors.len(), 5, "{text}");
}

#[test]
fn values_that_cannot_work_are_refused() {
    let cases = [
        ("[workers]\nslots = 0\n", "workers.slots"),
        ("[server]\npublic_url = \"kontor.example.org\"\n", "server.public_url"),
        ("[log]\nlevel = \"loud=very\"\n", "log.level"),
        ("[bootstrap]\npassword = \"short\"\n", "bootstrap.password"),
        ("[database]\ntenant_url = \"postgres://x/y\"\n", "database.system_url"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\n[[models.offered]]\nid = \"a\"\npath = \"b\"\n", "occurs twice"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nsize = 3\n", "size"),
        ("[response_cache]\nmemory_mib = 2000000\n", "response_cache.memory_mib"),
        ("[[models.offered]]\nid = \"a\"\n", "a has no path and no upstream runs it"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"llm.example.org\"\nmodels = {}\n", "neither https:// nor http://"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = { b = \"b\" }\n", "b, which is not among"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = {}\nkey_file = \"/no/such\"\n", "cannot be read"),
    ];
    for (toml, expected) in cases {
        let text = load(Some(toml), &[]).expect_err(toml).to_string();
        assert!(text.contains(expected), "{toml}: {text}");
    }
}

#[test]
fn an_upstream_runs_a_model_that_has_no_file() {
    let folder = TempDir::new().expect("a folder");
    let key = folder.path().join("key");
    fs::write(&key, "sk-upstream\n").expect("written");
    let toml = format!(
        "[[models.offered]]\nid = \"big\"\n[[upstreams]]\nname = \"u\"\nbase_url = \"https://llm.example.org/v1/\"\nkey_file = {key:?}\nmodels = {{ big = \"vendor/Big\" }}\n"
    );
    let config = load(Some(&toml), &[]).expect("valid");
    let upstream = &config.upstreams[0];
    assert_eq!((upstream.base_url.as_str(), upstream.order, upstream.slots), ("https://llm.example.org/v1", 1, 32));
    assert_eq!(upstream.key.as_ref().map(|key| key.reveal()), Some("sk-upstream"));
    assert!(!format!("{config:?}").contains("sk-upstream"));
}

#[test]
fn a_model_is_named_after_its_file() {
    let config = load(None, &[("KONTOR__MODELS__DEFAULT_PATH", "/m/Tiny-Chat-q4_k_m.gguf")]).expect("valid");
    assert_eq!(config.models.offered[0].id, "tiny-chat");
}

#[test]
fn secrets_never_show() {
    let config = load(None, &[("KONTOR__BOOTSTRAP__PASSWORD", "correct horse battery"), ("DATABASE_URL", "postgres://o:hunter2@h/db")]);
    let shown = format!("{:?}", config.expect("valid"));
    assert!(
        !shown.contains("horse") && !shown.contains("hunter2"),
        "If you are here because this failed: a secret would reach a log through Debug."
    );
}
