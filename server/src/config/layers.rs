//! Merging the layers and turning every mistake into a line that names the key and its origin.

use super::{Config, ConfigErrors, DEFAULT_TOML, Sources};
use figment::{
    Profile, Provider,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Value},
};
use std::path::Path;

/// Keys that hold secrets: each may be given as `<key>_file` instead, naming a file with the text.
const SECRETS: &[&str] = &["database.url", "database.tenant_url", "database.system_url", "bootstrap.password"];

/// Mistakes after which we stop looking for more.
const MOST_MISTAKES: usize = 50;

/// One source of settings, kept apart from the others so that a mistake can be traced to it.
struct Layer {
    origin: Origin,
    dict: Dict,
}

enum Origin {
    File(String),
    Environment,
}

impl Origin {
    fn describe(&self, path: &[String]) -> String {
        match self {
            Self::File(name) => format!("in {name}"),
            Self::Environment => format!("set by {}", variable(path)),
        }
    }
}

/// Merges all layers over the defaults and reads them into a [`Config`].
pub(super) fn extract(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut wrong = Vec::new();
    let mut defaults = parse_toml(DEFAULT_TOML).map_err(|error| ConfigErrors(vec![format!("built-in defaults: {error}")]))?;
    insert(&mut defaults, &["cache_dir".into()], Value::from(default_cache_dir(sources)));
    let mut layers = Vec::new();
    if let Some(file) = &sources.file {
        match read_file(file) {
            Ok(dict) => layers.push(Layer { origin: Origin::File(file.display().to_string()), dict }),
            Err(error) => wrong.push(error),
        }
    }
    layers.push(Layer { origin: Origin::Environment, dict: environment(sources, &defaults) });
    for layer in &mut layers {
        read_secret_files(layer, &mut wrong);
    }
    let config = read(&defaults, &mut layers, &mut wrong);
    match config {
        Some(config) if wrong.is_empty() => Ok(config),
        _ => Err(ConfigErrors(wrong)),
    }
}

/// Reads the merged layers; on a mistake notes it, takes the offending key out of its layer and tries again,
/// so that the person sees all mistakes at once.
fn read(defaults: &Dict, layers: &mut [Layer], wrong: &mut Vec<String>) -> Option<Config> {
    while wrong.len() < MOST_MISTAKES {
        let mut merged = defaults.clone();
        layers.iter().for_each(|layer| merge(&mut merged, &layer.dict));
        let error = match Value::from(merged).deserialize::<Config>() {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let mut path = error.path.clone();
        let what = match &error.kind {
            Kind::UnknownField(name, known) => {
                // figment counts an unknown key as part of the path.
                if path.last() != Some(name) {
                    path.push(name.clone());
                }
                format!("there is no such key; known here: {}", known.join(", "))
            }
            Kind::MissingField(name) => {
                path.push(name.to_string());
                "is missing".to_owned()
            }
            other => other.to_string(),
        };
        let culprit = layers.iter_mut().rev().find(|layer| find(&layer.dict, &path).is_some() || layer_holds_parent(&layer.dict, &path));
        let origin = culprit.as_ref().map(|layer| layer.origin.describe(&path)).unwrap_or_default();
        wrong.push(format!("`{}` ({origin}): {what}", path.join(".")));
        if !culprit.is_some_and(|layer| remove_nearest(&mut layer.dict, &path)) {
            return None;
        }
    }
    None
}

/// A list's element is addressed by its index; the layer holds the list, not the element's path.
fn layer_holds_parent(dict: &Dict, path: &[String]) -> bool {
    (1..path.len()).rev().any(|length| find(dict, &path[..length]).is_some_and(|value| value.as_dict().is_none()))
}

fn read_file(path: &Path) -> Result<Dict, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse_toml(&text).map_err(|error| format!("{} is not valid TOML: {error}", path.display()))
}

fn parse_toml(text: &str) -> Result<Dict, String> {
    let mut profiles = Toml::string(text).data().map_err(|error| error.to_string())?;
    Ok(profiles.remove(&Profile::Default).unwrap_or_default())
}

/// `KONTOR__SECTION__KEY` and `DATABASE_URL` as a tree. Text stays text where the default is text or absent:
/// a password of digits is not a number.
fn environment(sources: &Sources, defaults: &Dict) -> Dict {
    let mut dict = Dict::new();
    if let Some(url) = sources.var("DATABASE_URL") {
        insert(&mut dict, &["database".into(), "url".into()], Value::from(url));
    }
    for (name, raw) in &sources.env {
        let Some(rest) = name.strip_prefix("KONTOR__") else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let text = find(defaults, &path).is_none_or(|default| default.as_str().is_some());
        let value =
            if text { Value::from(raw.as_str()) } else { raw.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}) };
        insert(&mut dict, &path, value);
    }
    dict
}

/// Replaces `<secret>_file` by the file's text.
fn read_secret_files(layer: &mut Layer, wrong: &mut Vec<String>) {
    for secret in SECRETS {
        let path: Vec<String> = secret.split('.').map(str::to_owned).collect();
        let mut twin = path.clone();
        if let Some(last) = twin.last_mut() {
            last.push_str("_file");
        }
        let Some(file) = find(&layer.dict, &twin).and_then(|value| value.as_str().map(str::to_owned)) else { continue };
        let origin = layer.origin.describe(&twin);
        remove(&mut layer.dict, &twin);
        if find(&layer.dict, &path).is_some() {
            wrong.push(format!("`{secret}` and `{secret}_file` ({origin}): give one of the two"));
            continue;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => insert(&mut layer.dict, &path, Value::from(text.trim_end_matches(['\r', '\n']))),
            Err(error) => wrong.push(format!("`{secret}_file` ({origin}): cannot read {file}: {error}")),
        }
    }
}

fn default_cache_dir(sources: &Sources) -> String {
    let below = |name: &str, rest: &str| sources.var(name).map(|base| format!("{base}{rest}"));
    sources
        .var("KONTOR_CACHE")
        .map(str::to_owned)
        .or_else(|| below("XDG_CACHE_HOME", "/kontor"))
        .or_else(|| below("HOME", "/.cache/kontor"))
        .unwrap_or_else(|| ".kontor/cache".into())
}

fn variable(path: &[String]) -> String {
    format!("KONTOR__{}", path.join("__").to_uppercase())
}

fn find<'a>(dict: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = dict.get(first)?;
    if rest.is_empty() { Some(value) } else { find(value.as_dict()?, rest) }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let child = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    if child.as_dict().is_none() {
        *child = Value::from(Dict::new());
    }
    if let Value::Dict(_, child) = child {
        insert(child, rest, value);
    }
}

fn remove(dict: &mut Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => dict.remove(last).is_some(),
        [first, rest @ ..] => match dict.get_mut(first) {
            Some(Value::Dict(_, child)) => remove(child, rest),
            _ => false,
        },
    }
}

/// Removes the key, or the nearest enclosing one that exists (a mistake inside a list).
fn remove_nearest(dict: &mut Dict, path: &[String]) -> bool {
    (1..=path.len()).rev().any(|length| remove(dict, &path[..length]))
}

fn merge(into: &mut Dict, from: &Dict) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => merge(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}
