//! The shape of the product, held by tests: who may depend on whom, and which words may occur where.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each crate of ours may use of ours (docs/ARCHITECTURE.md). Tests may use `testkit` on top.
const GRAPH: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("domain", &["contract"]),
    ("migrations", &[]),
    ("store", &["contract", "domain", "migrations"]),
    ("identity", &["contract", "domain", "store"]),
    ("worker-protocol", &["contract"]),
    ("worker", &["contract", "telemetry", "worker-protocol"]),
    ("bench", &["contract", "worker-protocol"]),
    ("guardrails", &[]),
    ("telemetry", &[]),
    ("inference", &["contract", "domain", "guardrails", "store", "telemetry", "worker-protocol"]),
    ("services", &["contract", "domain", "store", "identity", "inference", "telemetry"]),
    ("gateway", &["contract", "domain", "identity", "inference", "services"]),
    ("app", &["contract", "domain", "identity", "services"]),
    ("frontend", &["app"]),
    ("testkit", &["contract", "domain", "migrations", "store", "identity", "inference", "services", "worker-protocol"]),
    (
        "server",
        &[
            "app",
            "contract",
            "domain",
            "gateway",
            "identity",
            "inference",
            "migrations",
            "services",
            "store",
            "telemetry",
            "worker",
            "worker-protocol",
        ],
    ),
];

/// Libraries that have one home each.
const HOMES: &[(&str, &[&str])] = &[
    ("sea-orm", &["store", "migrations", "testkit"]),
    ("sea-orm-migration", &["migrations", "store", "testkit"]),
    ("sqlx", &["store", "testkit"]),
    ("llama-cpp-2", &["worker"]),
    ("llama-cpp-sys-2", &["worker"]),
    ("ring", &["identity"]),
    ("reqwest", &["inference", "bench", "telemetry", "worker", "worker-protocol"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry-otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("argon2", &["identity"]),
    ("figment", &["server"]),
    ("utoipa", &["contract", "gateway"]),
    ("clap", &["server", "bench"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("cargo metadata")
}

/// Crate → what it depends on outside of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let normal = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.clone())
            .collect()
    };
    metadata().workspace_packages().iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let all = dependencies();
    let ours: BTreeSet<&String> = all.keys().collect();
    let mut wrong = Vec::new();
    for (name, used) in &all {
        let Some((_, allowed)) = GRAPH.iter().find(|(listed, _)| listed == name) else {
            wrong.push(format!("the crate `{name}` has no row in GRAPH"));
            continue;
        };
        let too_much = used.iter().filter(|used| ours.contains(used) && !allowed.contains(&used.as_str()));
        wrong.extend(too_much.map(|used| format!("`{name}` must not depend on `{used}`")));
    }
    assert!(
        wrong.is_empty(),
        "{}\nIf you are here because this failed: a layer reached upwards or sideways. Move the code to the layer it belongs to; \
         change GRAPH only together with docs/ARCHITECTURE.md and an ADR.",
        wrong.join("\n")
    );
}

#[test]
fn libraries_stay_in_their_home() {
    let all = dependencies();
    let mut wrong = Vec::new();
    for (library, homes) in HOMES {
        let visitors = all.iter().filter(|(name, used)| used.contains(*library) && !homes.contains(&name.as_str()));
        wrong.extend(visitors.map(|(name, _)| format!("`{library}` is used in `{name}`; its home is {}", homes.join(", "))));
    }
    assert!(
        wrong.is_empty(),
        "{}\nIf you are here because this failed: a building block would no longer be replaceable. Put what you need behind the home's interface.",
        wrong.join("\n")
    );
}

#[test]
fn the_browser_carries_no_schemas() {
    let described = |package: &cargo_metadata::Package| {
        let contract = package.dependencies.iter().find(|dependency| dependency.name == "contract");
        contract.is_some_and(|contract| contract.features.iter().any(|feature| feature == "openapi"))
    };
    let with: Vec<String> =
        metadata().workspace_packages().into_iter().filter(|package| described(package)).map(|package| package.name.to_string()).collect();
    assert_eq!(
        with,
        ["gateway"],
        "If you are here because this failed: the browser's bundle would carry what only the API's description needs."
    );
}

/// A word that may occur in production sources only in some places.
struct Rule {
    word: &'static str,
    /// Path prefixes below the root.
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        word: "Actor::authenticated(",
        allowed: &["crates/domain/", "crates/identity/", "crates/testkit/"],
        why: "an Actor is the proof that somebody was authenticated; only identity may hand it out",
    },
    Rule {
        word: "Actor::program(",
        allowed: &["crates/domain/", "crates/identity/", "crates/testkit/"],
        why: "an Actor is the proof that a key was checked; only identity may hand it out",
    },
    Rule {
        word: ".classified(",
        allowed: &["crates/domain/", "crates/identity/", "crates/testkit/"],
        why: "the class of an Actor's data is its administrator's; everybody else may only raise it (Actor::raised_to)",
    },
    Rule {
        word: "<textarea",
        allowed: &["app/src/ui/"],
        why: "Leptos does not escape a textarea's children on the server: stored text could become a script. Use ui::TextArea",
    },
    Rule {
        word: "inner_html",
        allowed: &["app/src/ui/markdown"],
        why: "text from people and models must pass the one sanitiser, ui::Markdown",
    },
    Rule { word: "ServerFnError::new", allowed: &[], why: "it puts internal texts on the wire; return UiError, made by edge::fail" },
    Rule { word: "GetUrl", allowed: &[], why: "a server function over GET is open to foreign pages; use input = Json" },
    Rule {
        word: "env::var",
        allowed: &["server/src/config/sources.rs", "crates/testkit/"],
        why: "only the server reads the environment; take it as a parameter",
    },
    Rule { word: "Uuid::new_v4", allowed: &[], why: "ids are time-ordered: use Uuid::now_v7" },
];

#[test]
fn words_stay_in_their_place() {
    let root = root();
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let text = fs::read_to_string(root.join(&file)).expect("a source file");
        for rule in RULES.iter().filter(|rule| !rule.allowed.iter().any(|prefix| file.starts_with(prefix))) {
            for (number, _) in text.lines().enumerate().filter(|(_, line)| is_code(line) && line.contains(rule.word)) {
                wrong.push(format!("{file}:{}: `{}`: {}", number + 1, rule.word, rule.why));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nIf you are here because this failed: see the reason in each line.", wrong.join("\n"));
}

#[test]
fn server_crates_refuse_to_build_for_the_browser() {
    let root = root();
    for name in ["domain", "store", "identity", "inference", "services", "telemetry", "worker-protocol", "worker"] {
        let text = fs::read_to_string(root.join("crates").join(name).join("src/lib.rs")).expect("lib.rs");
        assert!(
            text.contains("compile_error!") && text.contains("target_family = \"wasm\""),
            "crates/{name}\nIf you are here because this failed: server code could end up in the browser's bundle. Put the compile_error! back."
        );
    }
}

#[test]
fn leptos_options_agree() {
    let build = leptos_section("Cargo.toml");
    let run = leptos_section("Leptos.toml");
    // cargo-leptos takes the project's name for the output.
    assert_eq!(run.get("output-name"), build.get("output-name").or(build.get("name")), "output-name");
    let common: Vec<&String> = run.keys().filter(|key| build.contains_key(*key)).collect();
    assert!(common.len() >= 4, "the two files should share some keys, these are {common:?}");
    for key in common {
        assert_eq!(
            run[key], build[key],
            "{key}\nIf you are here because this failed: Cargo.toml (read by cargo-leptos) and Leptos.toml (read by the server) disagree; pages would ask for files that do not exist."
        );
    }
}

/// The keys of `[[workspace.metadata.leptos]]`, values as written.
fn leptos_section(file: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(file)).expect("a TOML file");
    let section = text.split("[[workspace.metadata.leptos]]").nth(1).expect("the section");
    section
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .filter(|(key, _)| !key.starts_with('#'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

/// All Rust files of the crates' `src` folders, relative to the root.
fn sources(root: &Path) -> Vec<String> {
    let mut folders: Vec<PathBuf> =
        ["app/src", "frontend/src", "server/src", "migrations/src"].iter().map(|folder| root.join(folder)).collect();
    folders.extend(fs::read_dir(root.join("crates")).expect("crates").map(|entry| entry.expect("an entry").path().join("src")));
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}
