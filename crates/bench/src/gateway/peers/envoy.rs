//! Envoy as a bare proxy with one worker: no keys, no access log, no statistics beyond its own counters. What passing
//! bytes on costs at least.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{CHAT, Kind, Programs, Running, Upstreams, folder_with, pretty};
use crate::Result;
use crate::gateway::client::Route;
use crate::gateway::process::{Process, command, free_address};
use crate::gateway::upstream::{MODEL, Upstream};

/// Requests whose path begins with this go to the upstreams of which the first may fail.
const FAILING: &str = "/failover";
/// More than ever come at once; its own default is 1,024.
const AT_ONCE: u32 = 1_000_000;

pub async fn start(programs: &Programs, upstreams: &Upstreams) -> Result<Running> {
    let addr = free_address()?;
    let (folder, config) = folder_with("envoy.json", &pretty(&configuration(addr, upstreams))?)?;
    let mut command = command(programs.required(Kind::Envoy)?, programs.core);
    command.arg("-c").arg(config).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    let process = Process::start("envoy", &mut command)?;
    let routes = (Route::new(addr, CHAT, MODEL, &[])?, Route::new(addr, &format!("{FAILING}{CHAT}"), MODEL, &[])?);
    Running::peer(Kind::Envoy, process, routes, Some(folder)).await
}

fn configuration(addr: SocketAddr, upstreams: &Upstreams) -> Value {
    json!({ "static_resources": {
        "listeners": [{
            "name": "chat",
            "address": socket(addr),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": connection_manager(),
            }] }],
        }],
        "clusters": [
            cluster("usual", &[&upstreams.usual]),
            cluster("failover", &[&upstreams.first, &upstreams.second]),
        ],
    } })
}

fn connection_manager() -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "chat",
        "codec_type": "HTTP1",
        "stream_idle_timeout": "0s",
        "route_config": { "name": "chat", "virtual_hosts": [{ "name": "chat", "domains": ["*"], "routes": routes() }] },
        "http_filters": [router],
    })
}

fn routes() -> Value {
    let other = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
    let retry = json!({
        "retry_on": "5xx,retriable-status-codes",
        "retriable_status_codes": [429],
        "num_retries": 1,
        // The shortest wait before a second try that it takes; its default is 25 ms.
        "retry_back_off": { "base_interval": "0.001s", "max_interval": "0.001s" },
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": { "@type": other, "update_frequency": 1 },
        },
    });
    let failing = json!({ "cluster": "failover", "prefix_rewrite": "/", "timeout": "0s", "retry_policy": retry });
    json!([
        { "match": { "prefix": format!("{FAILING}/") }, "route": failing },
        { "match": { "prefix": "/" }, "route": { "cluster": "usual", "timeout": "0s" } },
    ])
}

/// The first upstream is preferred.
fn cluster(name: &str, upstreams: &[&Upstream]) -> Value {
    let endpoint = |(priority, upstream): (usize, &&Upstream)| {
        let address = socket(upstream.addr());
        json!({ "priority": priority, "lb_endpoints": [{ "endpoint": { "address": address } }] })
    };
    let endpoints: Vec<Value> = upstreams.iter().enumerate().map(endpoint).collect();
    let most = json!({
        "max_connections": AT_ONCE, "max_pending_requests": AT_ONCE, "max_requests": AT_ONCE, "max_retries": AT_ONCE,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [most] },
        "load_assignment": { "cluster_name": name, "endpoints": endpoints },
    })
}

fn socket(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } })
}
