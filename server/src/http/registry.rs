//! The port on which workers of other machines register: mutual TLS, see `worker_protocol::registration`.

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    routing::put,
};
use inference::{Pool, RegisterError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker_protocol::{
    registration::{Registered, Registration},
    tls::{Identity, Peer, TlsError, TlsListener, is_worker_name, worker_name},
};

/// How often a worker says that it is there, in milliseconds.
const AGAIN_MS: u32 = 5_000;

/// Serves until asked to stop.
///
/// # Errors
/// Certificate, key or authority cannot be used.
pub fn serve(
    listener: TcpListener,
    identity: Identity,
    pool: Pool,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, TlsError> {
    let listener = TlsListener::new(listener, &identity, None)?;
    let router = router(pool, identity).into_make_service_with_connect_info::<Peer>();
    Ok(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "the port for workers ended");
        }
    })
}

fn router(pool: Pool, identity: Identity) -> Router {
    Router::new().route("/workers/{name}", put(register).delete(leave)).with_state((pool, identity))
}

type Refused = (StatusCode, String);

async fn register(
    State((pool, identity)): State<(Pool, Identity)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Json(registration): Json<Registration>,
) -> Result<Json<Registered>, Refused> {
    authorise(&peer, &name)?;
    pool.register(&name, registration, &identity).await.map_err(|error| {
        let status = match error {
            RegisterError::Protocol { .. } => StatusCode::CONFLICT,
            RegisterError::Unreachable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RegisterError::Client(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string())
    })?;
    Ok(Json(Registered { again_ms: AGAIN_MS }))
}

async fn leave(
    State((pool, _)): State<(Pool, Identity)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    authorise(&peer, &name)?;
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    pool.leave(&name, presented.unwrap_or_default());
    Ok(StatusCode::NO_CONTENT)
}

/// A worker speaks for itself alone.
fn authorise(peer: &Peer, name: &str) -> Result<(), Refused> {
    if is_worker_name(name) && peer.is(&worker_name(name)) {
        return Ok(());
    }
    tracing::warn!(addr = %peer.addr, name, "a registration under a name that is not the certificate's was refused");
    Err((StatusCode::FORBIDDEN, format!("the certificate is not for {}", worker_name(name))))
}
