//! Portkey's open-source gateway. It checks no keys: each request says in its headers where it is to go.
//!
//! It listens on all addresses of the machine and cannot be told otherwise. The first piece of each stream it holds back for
//! 25 ms, also without being told.

use std::path::Path;

use serde_json::json;

use super::{CHAT, Kind, Programs, Running, UPSTREAM_KEY, Upstreams};
use crate::Result;
use crate::gateway::client::Route;
use crate::gateway::process::{Process, command, free_address};
use crate::gateway::upstream::{MODEL, Upstream};

/// Below the folder in which npm installed it.
const SCRIPT: &str = "node_modules/@portkey-ai/gateway/build/start-server.js";

pub async fn start(programs: &Programs, upstreams: &Upstreams) -> Result<Running> {
    let addr = free_address()?;
    let script = programs.required(Kind::Portkey)?.join(SCRIPT);
    let mut command = command(Path::new("node"), programs.core);
    command.arg(&script).arg(format!("--port={}", addr.port())).arg("--headless");
    command.env("NODE_ENV", "production").env("PORT", addr.port().to_string());
    let process = Process::start("portkey", &mut command)?;
    let bearer = format!("Bearer {UPSTREAM_KEY}");
    let usual = upstreams.usual.base_url();
    let route = [("authorization", bearer.as_str()), ("x-portkey-provider", "openai"), ("x-portkey-custom-host", usual.as_str())];
    let target = |upstream: &Upstream| json!({ "provider": "openai", "api_key": UPSTREAM_KEY, "custom_host": upstream.base_url() });
    let config = json!({
        "strategy": { "mode": "fallback", "on_status_codes": [429, 500] },
        "targets": [target(&upstreams.first), target(&upstreams.second)],
    });
    let config = config.to_string();
    let failover = [("x-portkey-config", config.as_str())];
    let routes = (Route::new(addr, CHAT, MODEL, &route)?, Route::new(addr, CHAT, MODEL, &failover)?);
    Running::peer(Kind::Portkey, process, routes, None).await
}
