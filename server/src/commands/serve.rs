//! `kontor serve`: everything in one process, from an empty folder to an address that answers.

use crate::{
    AnyError,
    config::Config,
    http::{self, AppState, assets::Site, awake::Awake, csrf::PublicHost, metrics::Metrics},
    log,
    startup::{
        bootstrap::{self, FirstLogin},
        database, memory, models,
        product::Product,
        sharing::SoleServer,
        signals, traces,
    },
};
use app::edge::CookiePolicy;
use axum::{
    Router,
    serve::{ListenerExt, TapIo},
};
use gateway::{BatchLines, Gateway};
use inference::{Credential, Pool};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use telemetry::Tracer;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Handle, RuntimeFlavor},
    signal::unix::Signal,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use worker_protocol::tls::Identity;

/// Connections that may wait until they are accepted; the kernel's `net.core.somaxconn` bounds it as well. One that finds no
/// place gets no answer, and is tried again by its client's kernel after one, three and seven seconds.
const WAITING_CONNECTIONS: u32 = 4096;

/// Starts everything, serves until a signal comes, ends everything.
///
/// # Errors
/// Something does not start; what had started is stopped again.
pub async fn run(config: Config, jobs: bool) -> Result<(), AnyError> {
    log::install(&config.log)?;
    let stop = signals::stop_on_signal()?;
    let tracer = traces::of_server(&config.traces)?;
    // What needs no other part comes first: its mistakes should show at once, not after the database started.
    let site = Site::find(config.server.site_root.as_deref())?;
    let catalogue = models::catalogue(&config)?;
    for path in models::missing_files(&config) {
        tracing::warn!(path = %path.display(), "this model file does not exist; its worker cannot start");
    }
    let listener = bind(config.server.addr, "the web server")?;
    let metrics_listener = if config.metrics.enabled { Some(bind(config.metrics.addr, "metrics")?) } else { None };

    let workers_port = match config.pool.port() {
        Some(port) => Some((bind(port.addr, "the port for workers")?, Identity::read(port.cert, port.key, port.ca)?)),
        None => None,
    };

    // The workers load their models while Postgres starts.
    let pool = Pool::default();
    models::add_upstreams(&config, &pool)?;
    // Nobody is asked with a configured key that the database may replace.
    for upstream in pool.upstreams() {
        pool.show_credential(&upstream, &Credential::Unusable("waits for the database to tell its key".into()));
    }
    models::start_workers(&config, &pool)?;
    let server = match database::Server::start(&config).await {
        Ok(server) => server,
        Err(error) => {
            pool.shutdown().await;
            return Err(error);
        }
    };
    let outcome = async {
        server.migrate().await?;
        let db = server.connect(&config).await?;
        let product = Product::with_journal(&config, db, catalogue, pool.clone())?;
        product.inference.adopt_journals().await;
        product.upstream_credentials.apply().await?;
        // With a database of our own and no other server on it, whatever is still open was left by a process that
        // was killed. Elsewhere another node may be at it, and the sweeper waits until none can be.
        let sole = if server.is_embedded() { SoleServer::claim(&config.data_dir)? } else { None };
        if sole.is_some() {
            product.inference.sweep(0).await?;
        }
        let first_login = bootstrap::run(&config, &product.identity).await?;
        let listeners = Listeners { web: listener, metrics: metrics_listener, workers: workers_port };
        serve(&config, &site, &product, &pool, &tracer, listeners, first_login, jobs, stop).await
    }
    .await;
    // Also after a failed start: nothing of ours may stay behind.
    pool.shutdown().await;
    tracer.shutdown(traces::FLUSH).await;
    let stopped = server.stop().await;
    outcome?;
    stopped
}

struct Listeners {
    web: TcpListener,
    metrics: Option<TcpListener>,
    /// Where workers of other machines register, and as whom we talk to them.
    workers: Option<(TcpListener, Identity)>,
}

/// From *all parts are there* to *all parts are quiet again*.
#[expect(clippy::too_many_arguments, reason = "the one call that brings all parts together")]
async fn serve(
    config: &Config,
    site: &Site,
    product: &Product,
    pool: &Pool,
    tracer: &Tracer,
    listeners: Listeners,
    first_login: Option<FirstLogin>,
    jobs: bool,
    stop: CancellationToken,
) -> Result<(), AnyError> {
    let state = AppState {
        db: product.db.clone(),
        identity: product.identity.clone(),
        inference: product.inference.clone(),
        services: product.services.clone(),
        metrics: Arc::new(Metrics::default()),
        tracer: tracer.clone(),
        cookies: CookiePolicy { secure: config.server.is_https() },
        public_host: PublicHost::of(config.server.public_url.as_deref()),
        trust_proxy: config.server.trust_proxy,
        awake: stays_awake(config.server.awake()),
    };
    let web = http::router(site, &state)?;
    let tasks = TaskTracker::new();
    if jobs {
        let (services, stop) = (product.services.clone(), stop.clone());
        tasks.spawn(async move { services.run_jobs(stop).await });
    }
    // Beside the models, unlike the other jobs: this one uses them.
    let gateway = Gateway::new(product.services.clone(), product.identity.clone());
    let (batches, lines, parallel) = (product.services.batches.clone(), Arc::new(BatchLines::new(&gateway)), config.batches.parallel);
    let stopping = stop.clone();
    tasks.spawn(async move { batches.work(lines, parallel, stopping).await });
    if let Some(listener) = listeners.metrics {
        tasks.spawn(answer(
            listener,
            http::metrics::router(state.metrics.clone(), product.inference.clone(), product.db.clone()),
            stop.clone(),
        ));
    }
    if let Some((listener, identity)) = listeners.workers {
        tasks.spawn(http::registry::serve(listener, identity, pool.clone(), stop.clone())?);
    }
    let (credentials, stopping) = (product.upstream_credentials.clone(), stop.clone());
    tasks.spawn(async move { credentials.tend(stopping).await });
    let (identity, stopping) = (product.identity.clone(), stop.clone());
    tasks.spawn(async move { identity.tend_keys(stopping).await });
    let (inference, stopping) = (product.inference.clone(), stop.clone());
    tasks.spawn(async move { inference.tend_quotas(stopping).await });
    let (inference, stopping) = (product.inference.clone(), stop.clone());
    tasks.spawn(async move { inference.tend_reconciliation(stopping).await });
    let (inference, stopping) = (product.inference.clone(), stop.clone());
    tasks.spawn(async move { inference.tend_cache(stopping).await });
    let (hang_up, restarting) = (signals::hang_ups()?, pool.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(restart_workers(hang_up, restarting)));
    tasks.spawn(memory::give_back(stop.clone()));
    if let Some(awake) = state.awake {
        tasks.spawn(awake.keep(stop.clone()));
    }
    announce(config, first_login.as_ref());
    tasks.spawn(answer(listeners.web, web, stop.clone()));
    tasks.close();

    stop.cancelled().await;
    wind_down(config.server.shutdown(), product, &tasks).await;
    Ok(())
}

/// Of several threads, one that sleeps already keeps the others from asking the kernel.
fn stays_awake(lasts: Duration) -> Option<Awake> {
    (Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread).then(|| Awake::new(lasts)).flatten()
}

/// SIGHUP: new worker processes in the place of the old ones, without an interruption.
async fn restart_workers(mut hang_up: Signal, pool: Pool) {
    while hang_up.recv().await.is_some() {
        tracing::info!("worker processes are replaced, one after the other");
        pool.restart_workers().await;
        tracing::info!("worker processes are replaced");
    }
}

/// Ends what runs, in the order in which one thing needs the other, and not longer than allowed.
async fn wind_down(limit: Duration, product: &Product, tasks: &TaskTracker) {
    tracing::info!("stopping");
    let quiet = async {
        // No new connection is taken any more. Turns end as interrupted with their text kept, which ends the
        // event streams, which lets the last connections close.
        product.services.drain().await;
        product.inference.drain().await;
        tasks.wait().await;
        if let Err(error) = product.db.close().await {
            tracing::warn!(%error, "the database connections did not close");
        }
    };
    if tokio::time::timeout(limit, quiet).await.is_err() {
        tracing::warn!(seconds = limit.as_secs(), "not everything ended in time; the next start settles what is left");
    }
}

fn bind(addr: SocketAddr, what: &str) -> Result<TcpListener, AnyError> {
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As tokio's own `bind`, which lets 1,024 wait: the address is free at once after a restart.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(WAITING_CONNECTIONS)
    };
    Ok(listen().map_err(|error: io::Error| format!("{what} cannot listen on {addr}: {error}"))?)
}

/// Serves until asked to stop, then until the last connection closed.
async fn answer(listener: TcpListener, router: Router, stop: CancellationToken) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(at_once(listener), service).with_graceful_shutdown(stop.clone().cancelled_owned()).await {
        tracing::error!(%error, "the web server ended");
        stop.cancel();
    }
}

/// Pieces of an answer are small and must not wait for company.
fn at_once(listener: TcpListener) -> TapIo<TcpListener, fn(&mut TcpStream)> {
    fn tap(stream: &mut TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    }
    listener.tap_io(tap as fn(&mut TcpStream))
}

/// Tells the person at the terminal where to go. This is a result, not a log line: it goes to standard output.
fn announce(config: &Config, first_login: Option<&FirstLogin>) {
    let mut text = format!("\n  Kontor is ready: {}\n", config.server.url());
    if let Some(login) = first_login {
        text.push_str(&login.describe(&config.data_dir));
    }
    super::print(&text);
}

#[cfg(test)]
mod tests {
    use super::at_once;
    use axum::serve::Listener;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_is_written_is_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let mut listener = at_once(listener);
        let (connected, (accepted, _)) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let _open = connected.expect("a connection");
        assert!(
            accepted.nodelay().expect("an option"),
            "If you are here because this failed: each word of a stream waits for an acknowledgement, 40 ms as a rule."
        );
    }
}
