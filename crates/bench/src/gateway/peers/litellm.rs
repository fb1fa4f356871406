//! LiteLLM's proxy with one worker and a master key; without a database, that is without keys of its own, budgets and
//! a record of what was asked.

use serde_json::{Value, json};

use super::{CHAT, FAILOVER, Kind, Programs, Running, UPSTREAM_KEY, Upstreams, folder_with, pretty};
use crate::Result;
use crate::gateway::client::Route;
use crate::gateway::process::{Process, command, free_address};
use crate::gateway::upstream::{MODEL, Upstream};

const MASTER_KEY: &str = "sk-bench";
/// The model that is asked where the first upstream fails.
const SECOND: &str = "bench-second";

pub async fn start(programs: &Programs, upstreams: &Upstreams) -> Result<Running> {
    let addr = free_address()?;
    // YAML holds JSON.
    let (folder, config) = folder_with("litellm.yaml", &pretty(&configuration(upstreams))?)?;
    let logging = folder.path().join("logging.json");
    std::fs::write(&logging, pretty(&quiet())?)?;
    let mut command = command(programs.required(Kind::LiteLlm)?, programs.core);
    command.arg("--config").arg(config).args(["--host", "127.0.0.1", "--port", &addr.port().to_string(), "--num_workers", "1"]);
    command.arg("--log_config").arg(logging);
    // It would fetch a list of prices at its start.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR").env_remove("DATABASE_URL");
    let process = Process::start("litellm", &mut command)?;
    let bearer = format!("Bearer {MASTER_KEY}");
    let route = |model: &str| Route::new(addr, CHAT, model, &[("authorization", bearer.as_str())]);
    Running::peer(Kind::LiteLlm, process, (route(MODEL)?, route(FAILOVER)?), Some(folder)).await
}

/// Its web server would write a line for each request, whatever LiteLLM itself is told to log.
fn quiet() -> Value {
    json!({ "version": 1, "disable_existing_loggers": false, "loggers": { "uvicorn.access": { "level": "WARNING" } } })
}

fn configuration(upstreams: &Upstreams) -> Value {
    let model = |name: &str, upstream: &Upstream| {
        let parameters = json!({ "model": format!("openai/{MODEL}"), "api_base": upstream.base_url(), "api_key": UPSTREAM_KEY });
        json!({ "model_name": name, "litellm_params": parameters })
    };
    json!({
        "model_list": [model(MODEL, &upstreams.usual), model(FAILOVER, &upstreams.first), model(SECOND, &upstreams.second)],
        // One second try, at the other upstream; the first one stays in use, as with the other gateways.
        "router_settings": { "num_retries": 0, "disable_cooldowns": true, "fallbacks": [{ FAILOVER: [SECOND] }] },
        "litellm_settings": { "num_retries": 0, "telemetry": false },
        "general_settings": { "master_key": MASTER_KEY },
    })
}
