//! Configuration: layers, secrets from files, and mistakes that name themselves.

use contract::usage::Purpose;
use domain::DataClass;
use inference::{LengthField, Prefer, StructuredField, UpstreamKind, guard::WhenAway};
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
fn the_master_key_lies_in_the_data_folder_unless_another_file_is_named() {
    let named = |env: &[(&str, &str)]| load(None, env).expect("valid").secrets.master_key_file;
    assert_eq!(named(&[]), None);
    assert_eq!(named(&[("KONTOR__SECRETS__MASTER_KEY_FILE", "/run/secrets/master")]), Some(PathBuf::from("/run/secrets/master")));
    let wrong = load(Some("[secrets]\nmaster_key = \"0123\"\n"), &[]).expect_err("no such key").to_string();
    assert!(wrong.contains("secrets.master_key") && !wrong.contains("0123"), "{wrong}");
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
fn the_usual_variables_of_opentelemetry_are_honoured_and_ours_come_first() {
    let target = |env: &[(&str, &str)]| load(None, env).expect("valid").traces.target().map(str::to_owned);
    let usual = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://usual:4318/");
    assert_eq!(target(&[]), None, "If you are here because this failed: traces leave without anybody having wished it.");
    assert_eq!(target(&[usual]).as_deref(), Some("http://usual:4318/v1/traces"));
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://whole:4318/spans");
    assert_eq!(target(&[usual, whole]).as_deref(), Some("http://whole:4318/spans"));
    let ours = ("KONTOR__TRACES__ENDPOINT", "http://ours:4318");
    assert_eq!(target(&[usual, whole, ours]).as_deref(), Some("http://ours:4318/v1/traces"));
    assert_eq!(target(&[ours, ("OTEL_SDK_DISABLED", "true")]), None);
    assert_eq!(target(&[ours, ("OTEL_TRACES_EXPORTER", "none")]), None);
    let ratio = |env: &[(&str, &str)]| load(None, env).expect("valid").traces.ratio();
    assert_eq!(ratio(&[("KONTOR__TRACES__RATIO", "0.25")]), Some(0.25));
    assert_eq!(ratio(&[("OTEL_TRACES_SAMPLER", "always_off")]), None);
    let accept = |env: &[(&str, &str)]| load(None, env).expect("valid").traces.accept;
    assert!(!accept(&[]), "If you are here because this failed: strangers decide what is recorded.");
    assert!(accept(&[("KONTOR__TRACES__ACCEPT", "true")]));
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
        ("[workers]\ncache_type = \"q5\"\n", "`workers.cache_type`: \"q5\" is none of"),
        ("[workers]\nflash_attention = \"maybe\"\n", "`workers.flash_attention`: \"maybe\" is none of"),
        ("[workers]\ncache_type = \"q4_0\"\nflash_attention = \"off\"\n", "`workers.flash_attention`: cannot be off"),
        ("[workers]\nqueue_limit = 0\n", "workers.queue_limit"),
        ("[workers]\nqueue_limit = 4097\n", "workers.queue_limit"),
        ("[workers]\ncache_mib = 0\n", "workers.cache_mib"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\ncache_type = \"q5\"\n", "cache_type of a"),
        (
            "[workers]\ncache_type = \"q8_0\"\n[[models.offered]]\nid = \"a\"\npath = \"a\"\nflash_attention = \"off\"\n",
            "flash_attention of a: cannot be off",
        ),
        ("[server]\npublic_url = \"kontor.example.org\"\n", "server.public_url"),
        ("[log]\nlevel = \"loud=very\"\n", "log.level"),
        ("[bootstrap]\npassword = \"short\"\n", "bootstrap.password"),
        ("[files]\nfile_mib = 0\n", "files.file_mib"),
        ("[files]\ntenant_mib = 50\n", "files.tenant_mib"),
        ("[batches]\nparallel = 257\n", "batches.parallel"),
        ("[batches]\nopen = 0\n", "batches.open"),
        ("[ledger]\nretention_days = 366\n", "ledger.retention_days"),
        ("[traces]\nendpoint = \"collector:4318\"\n", "traces.endpoint"),
        ("[traces]\nendpoint = \"http://kim:secret@collector:4318\"\n", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("[traces]\nendpoint = \"http://collector:4318/?key=secret\"\n", "neither a query nor a fragment"),
        ("[traces]\nratio = 1.5\n", "traces.ratio"),
        ("[database]\ntenant_url = \"postgres://x/y\"\n", "database.system_url"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\n[[models.offered]]\nid = \"a\"\npath = \"b\"\n", "occurs twice"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nsize = 3\n", "size"),
        ("[response_cache]\nmemory_mib = 2000000\n", "response_cache.memory_mib"),
        ("[guardrails.classifier]\nurl = \"classifier:8090\"\n", "guardrails.classifier.url"),
        ("[guardrails.classifier]\nurl = \"http://kim:secret@classifier\"\n", "must hold no credentials"),
        ("[guardrails.classifier]\ntimeout_ms = 0\n", "guardrails.classifier.timeout_ms"),
        ("[guardrails.classifier]\nthreshold = 0.0\n", "guardrails.classifier.threshold"),
        ("[guardrails.classifier]\nwhen_away = \"wait\"\n", "wait"),
        ("[[models.offered]]\nid = \"a\"\n", "a has no path and no upstream runs it"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"llm.example.org\"\nmodels = {}\n", "neither https:// nor http://"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://kim:secret@x/v1\"\nmodels = {}\n", "a base_url with credentials"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1?key=secret\"\nmodels = {}\n", "a query or a fragment"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = { b = \"b\" }\n", "b, which is not among"),
        ("[[upstreams]]\nname = \"u\"\nkind = \"bedrock\"\nbase_url = \"https://x/v1\"\nmodels = {}\n", "bedrock"),
        ("[[upstreams]]\nname = \"u\"\nkind = \"azure\"\nbase_url = \"https://x\"\nmodels = {}\n", "needs an api_version"),
        (
            "[[upstreams]]\nname = \"u\"\nkind = \"azure\"\napi_version = \"1\"\nbase_url = \"https://x\"\nmodels = { a = \"b/../c\" }\n",
            "has a deployment `b/../c`",
        ),
        ("[[upstreams]]\nname = \"u\"\napi_version = \"1\"\nbase_url = \"https://x/v1\"\nmodels = {}\n", "kind = \"azure\" alone"),
        ("[[upstreams]]\nname = \"u\"\nlongest_answer = 5\nbase_url = \"https://x/v1\"\nmodels = {}\n", "kind = \"anthropic\" alone"),
        (
            "[[upstreams]]\nname = \"u\"\nkind = \"anthropic\"\nstructured_field = \"guided\"\nbase_url = \"https://x/v1\"\nmodels = {}\n",
            "has a structured_field, which is for kind = \"openai\" alone",
        ),
        ("[[upstreams]]\nname = \"u\"\nstructured_field = \"ebnf\"\nbase_url = \"https://x/v1\"\nmodels = {}\n", "ebnf"),
        (
            "[[upstreams]]\nname = \"u\"\ncache_salt_key = \"short\"\nbase_url = \"https://x/v1\"\nmodels = {}\n",
            "has a cache_salt_key of less than 32 bytes",
        ),
        (
            "[[upstreams]]\nname = \"u\"\ncache_salt_key_file = \"/no/such\"\nbase_url = \"https://x/v1\"\nmodels = {}\n",
            "a cache_salt_key_file that cannot be read",
        ),
        ("[[upstreams]]\nname = \"u\"\nweight = 0\nbase_url = \"https://x/v1\"\nmodels = {}\n", "has weight = 0"),
        ("[[upstreams]]\nname = \"u\"\ncost = { c = 1 }\nbase_url = \"https://x/v1\"\nmodels = {}\n", "a cost of c, which it does not run"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\naliases = [\"a\"]\n", "the alias a of a is the name of a model"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nprefer = \"beauty\"\n", "beauty"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\ntenants = []\n", "which is for nobody"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\ntenants = [\"A b\"]\n", "has a tenant \"A b\""),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\ntenants = [\"a\", \"-b\"]\n", "has a tenant \"-b\""),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nzones = [\"\"]\n", "a zone without a name"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nhighest_class = \"secret\"\n", "secret"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = {}\nzone = \" \"\n", "a zone without a name"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nimages = true\n", "a takes no images, because a worker runs it"),
        ("[[models.offered]]\nid = \"a\"\nkind = \"embedding\"\nimages = true\n", "a takes no images, because it makes no answers"),
        ("[[models.offered]]\nid = \"a\"\nimages = true\nimage_tokens = 0\n", "a has image_tokens = 0"),
        ("[[models.offered]]\nid = \"a\"\npath = \"a\"\nimage_tokens = 9\n", "a has image_tokens, which are for images = true alone"),
        ("[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = {}\nkey_file = \"/no/such\"\n", "cannot be read"),
    ];
    for (toml, expected) in cases {
        let text = load(Some(toml), &[]).expect_err(toml).to_string();
        assert!(text.contains(expected), "{toml}: {text}");
    }
}

#[test]
fn injections_are_judged_by_the_heuristic_alone_unless_a_server_is_named() {
    let asked = |env: &[(&str, &str)]| load(None, env).expect("valid").guardrails.classifier.config();
    assert!(asked(&[]).is_none(), "If you are here because this failed: texts leave without anybody having wished it.");
    let url = ("KONTOR__GUARDRAILS__CLASSIFIER__URL", "http://127.0.0.1:8090/classify");
    let config = asked(&[url, ("KONTOR__GUARDRAILS__CLASSIFIER__THRESHOLD", "0.75")]).expect("a classifier");
    assert_eq!((config.url.as_str(), config.patience.as_millis(), config.threshold), (url.1, 2000, 0.75));
    let why = "If you are here because this failed: who puts the classifier out gets everything past.";
    assert_eq!(config.when_away, WhenAway::Refuse, "{why}");
}

#[test]
fn the_ledger_is_kept_for_more_than_a_year_or_for_ever() {
    let days = |toml: &str| load(Some(toml), &[]).expect("valid").ledger.kept_days();
    assert_eq!(days(""), Some(400));
    assert_eq!(days("[ledger]\nretention_days = 367\n"), Some(367));
    assert_eq!(days("[ledger]\nretention_days = 0\n"), None);
}

#[test]
fn an_upstream_runs_a_model_that_has_no_file() {
    let folder = TempDir::new().expect("a folder");
    let key = folder.path().join("key");
    fs::write(&key, "sk-upstream\n").expect("written");
    let salt = folder.path().join("salt");
    fs::write(&salt, "a-key-of-salts-that-nobody-guesses\n").expect("written");
    let toml = format!(
        "[[models.offered]]\nid = \"big\"\n[[upstreams]]\nname = \"u\"\nbase_url = \"https://llm.example.org/v1/\"\nkey_file = {key:?}\ncache_salt_key_file = {salt:?}\nstructured_field = \"guided\"\nmodels = {{ big = \"vendor/Big\" }}\n"
    );
    let config = load(Some(&toml), &[]).expect("valid");
    let upstream = &config.upstreams[0];
    assert_eq!((upstream.base_url.as_str(), upstream.order, upstream.slots), ("https://llm.example.org/v1", 1, 32));
    assert_eq!(upstream.key.as_ref().map(|key| key.reveal()), Some("sk-upstream"));
    assert_eq!(upstream.cache_salt_key.as_ref().map(|key| key.reveal()), Some("a-key-of-salts-that-nobody-guesses"));
    assert_eq!(upstream.structured_field, Some(StructuredField::Guided));
    let shown = format!("{config:?}");
    assert!(!shown.contains("sk-upstream") && !shown.contains("nobody-guesses"));
}

#[test]
fn who_may_see_what_is_configured() {
    let toml = r#"
        [[models.offered]]
        id = "big"
        tenants = ["acme"]
        purposes = ["chat", "api"]
        zones = ["eu"]
        highest_class = "confidential"
        [[upstreams]]
        name = "a"
        base_url = "https://x/v1"
        models = { big = "b" }
        [[upstreams]]
        name = "b"
        base_url = "https://y/v1"
        models = { big = "b" }
        zone = "eu"
        highest_class = "restricted"
        tenants = ["acme"]
        purposes = ["api"]
    "#;
    let config = load(Some(toml), &[]).expect("valid");
    let model = &config.models.offered[0];
    assert_eq!((&model.purposes[..], &model.zones[..]), (&[Purpose::Chat, Purpose::Api][..], &["eu".to_owned()][..]));
    assert_eq!((model.tenants.clone(), model.highest_class), (Some(["acme".to_owned()].into()), Some(DataClass::Confidential)));
    let [first, second] = [0, 1].map(|at: usize| config.upstreams[at].clearance());
    assert_eq!(
        (first.highest_class, first.zone, first.tenants),
        (DataClass::Internal, None, None),
        "If you are here because this failed: who runs models elsewhere sees confidential data without anybody having said so."
    );
    assert_eq!((second.highest_class, second.zone.as_deref()), (DataClass::Restricted, Some("eu")));
    assert_eq!((second.tenants, second.purposes), (Some(["acme".to_owned()].into()), vec![Purpose::Api]));
}

#[test]
fn a_model_of_an_upstream_takes_pictures_if_that_is_said() {
    let tokens = |more: &str| {
        let upstream = "[[upstreams]]\nname = \"u\"\nbase_url = \"https://x/v1\"\nmodels = { a = \"a\" }\n";
        let toml = format!("[[models.offered]]\nid = \"a\"\n{more}{upstream}");
        load(Some(&toml), &[]).expect("valid").models.offered[0].image_tokens()
    };
    assert_eq!((tokens(""), tokens("images = false\n")), (None, None));
    assert_eq!((tokens("images = true\n"), tokens("images = true\nimage_tokens = 50000\n")), (Some(5_000), Some(50_000)));
}

#[test]
fn each_kind_of_upstream_has_its_own_defaults() {
    let toml = r#"
        [[models.offered]]
        id = "big"
        aliases = ["gpt-4o"]
        prefer = "cost"
        [[upstreams]]
        name = "azure"
        kind = "azure"
        api_version = "2024-10-21"
        base_url = "https://name.openai.azure.com/"
        models = { big = "gpt-4o-eu" }
        cost = { big = 2.5 }
        weight = 9
        [[upstreams]]
        name = "anthropic"
        kind = "anthropic"
        base_url = "https://api.anthropic.com/v1"
        models = { big = "claude" }
        longest_answer = 64000
        [[upstreams]]
        name = "vllm"
        base_url = "https://x/v1"
        models = { big = "b" }
    "#;
    let config = load(Some(toml), &[]).expect("valid");
    let model = &config.models.offered[0];
    assert_eq!((model.aliases.as_slice(), model.prefer), (&["gpt-4o".to_owned()][..], Prefer::Cost));
    let kinds: Vec<_> = config.upstreams.iter().map(|upstream| (upstream.kind(), upstream.length(), upstream.poll_seconds())).collect();
    let azure = UpstreamKind::Azure { api_version: "2024-10-21".into() };
    let expected = [
        (azure, LengthField::MaxCompletionTokens, 30),
        (UpstreamKind::Anthropic { longest_answer: 64000 }, LengthField::MaxTokens, 30),
        (UpstreamKind::OpenAi, LengthField::MaxTokens, 0),
    ];
    assert_eq!(kinds, expected);
    let azure = &config.upstreams[0];
    assert_eq!((azure.base_url.as_str(), azure.weight, azure.cost("big")), ("https://name.openai.azure.com", 9, 2_500_000));
    assert_eq!((config.upstreams[2].weight, config.upstreams[2].cost("big")), (1, 0));
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

#[test]
fn nobody_stays_awake_for_longer_than_a_core_takes_to_wake_up() {
    let awake = |microseconds: &str| load(None, &[("KONTOR__SERVER__AWAKE_MICROSECONDS", microseconds)]);
    assert_eq!(awake("300").expect("valid").server.awake(), std::time::Duration::from_micros(300));
    let wrong = awake("10001").expect_err("too long").to_string();
    assert!(wrong.contains("server.awake_microseconds"), "{wrong}");
}
