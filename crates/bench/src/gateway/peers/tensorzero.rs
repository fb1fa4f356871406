//! TensorZero's gateway, which its Python package holds whole. Without observability, that is without a database: it
//! then neither checks keys nor writes down what was asked.

use std::path::Path;

use serde_json::json;

use super::{Kind, Programs, Running, Upstreams, folder_with};
use crate::Result;
use crate::gateway::client::Route;
use crate::gateway::process::{Process, command};
use crate::gateway::upstream::{MODEL, Upstream};

/// Starts the gateway and writes down its address.
const LAUNCHER: &str = include_str!("tensorzero.py");

pub async fn start(programs: &Programs, upstreams: &Upstreams) -> Result<Running> {
    let (folder, config) = folder_with("tensorzero.toml", &configuration(upstreams))?;
    let told = folder.path().join("address");
    let mut command = command(programs.required(Kind::TensorZero)?, programs.core);
    command.args(["-c", LAUNCHER]).arg(config).arg(&told).env("OPENAI_API_KEY", super::UPSTREAM_KEY);
    let mut process = Process::start("tensorzero", &mut command)?;
    process.until(async || -> Result<()> { base(&told).map(drop) }).await?;
    let (addr, path) = base(&told)?;
    let (addr, path) = (addr.parse()?, format!("{path}/chat/completions"));
    let route = |model: &str| Route::new(addr, &path, &format!("tensorzero::model_name::{model}"), &[]);
    let routes = (route(MODEL)?, route("failover")?);
    Running::peer(Kind::TensorZero, process, routes, Some(folder)).await
}

/// The address that was written down, and the path below which OpenAI's API is.
fn base(told: &Path) -> Result<(String, String)> {
    let url = std::fs::read_to_string(told).map_err(|error| format!("it told no address yet: {error}"))?;
    split(url.trim()).ok_or_else(|| format!("{url:?} is no address").into())
}

fn split(url: &str) -> Option<(String, String)> {
    let (addr, path) = url.trim_end_matches('/').strip_prefix("http://")?.split_once('/')?;
    Some((addr.to_owned(), format!("/{path}")))
}

fn configuration(upstreams: &Upstreams) -> String {
    let provider = |model: &str, name: &str, upstream: &Upstream| {
        // JSON's strings are TOML's.
        let (model_name, url) = (json!(MODEL), json!(upstream.base_url()));
        format!("[models.{model}.providers.{name}]\ntype = \"openai\"\nmodel_name = {model_name}\napi_base = {url}\n")
    };
    [
        "[gateway]\nobservability.enabled = false\n".to_owned(),
        format!("[models.{MODEL}]\nrouting = [\"usual\"]\n"),
        provider(MODEL, "usual", &upstreams.usual),
        "[models.failover]\nrouting = [\"first\", \"second\"]\n".to_owned(),
        provider("failover", "first", &upstreams.first),
        provider("failover", "second", &upstreams.second),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn an_address_is_taken_apart() {
        let expected = Some(("127.0.0.1:4711".to_owned(), "/openai/v1".to_owned()));
        assert_eq!(split("http://127.0.0.1:4711/openai/v1"), expected);
        assert_eq!(split("http://127.0.0.1:4711/openai/v1/"), expected);
        assert_eq!(split("nowhere"), None);
    }
}
