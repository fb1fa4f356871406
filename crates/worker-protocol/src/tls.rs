//! Mutual TLS between a pool and workers on other machines.
//!
//! Both sides hold a certificate of one private authority. It names a role, not a machine: the pool is [`POOL`], a
//! worker [`worker_name`]. So addresses may change, and a worker's certificate does not make anybody the pool, nor
//! another worker. TLS 1.3 alone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the pool's certificate is for.
pub const POOL: &str = "pool.kontor.internal";
/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Handshakes at the same time: in all, and with one address, so that nobody without a certificate keeps others out.
const AT_ONCE: usize = 256;
const WITH_ONE: u32 = 8;

/// What a worker's certificate is for. `name` has 1 to 63 lower-case letters, digits and hyphens.
#[must_use]
pub fn worker_name(name: &str) -> String {
    format!("{name}.worker.kontor.internal")
}

/// The name can be a worker's.
#[must_use]
pub fn is_worker_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Why one side's certificate, key or authority is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{what} is not what it should be: {problem}")]
    Pem { what: &'static str, problem: String },
    #[error("the certificate cannot be used: {0}")]
    Tls(String),
}

/// Certificate, key and authority of one side, as PEM.
#[derive(Clone)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the three files.
    ///
    /// # Errors
    /// [`TlsError::Read`], naming the file.
    pub fn read(certificate: &Path, key: &Path, authority: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self { certificate: read(certificate)?, key: read(key)?, authority: read(authority)? })
    }

    fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let pem = |what, problem: String| TlsError::Pem { what, problem };
        let unusable = |error: &dyn std::fmt::Display| TlsError::Tls(error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| pem("the certificate", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| pem("the key", error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&self.authority) {
            let authority = authority.map_err(|error| pem("the authority", error.to_string()))?;
            roots.add(authority).map_err(|error| pem("the authority", error.to_string()))?;
        }
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|error| unusable(&error))?;
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).map_err(|error| unusable(&error))?;
        let mut config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key).map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// An HTTP/2 client that talks to `peer`, wherever it is, and to nobody else. Its addresses begin with
    /// `https://{peer}:{port}`.
    ///
    /// # Errors
    /// Certificate, key or authority cannot be used.
    pub fn client(&self, peer: &str, addr: SocketAddr) -> Result<reqwest::ClientBuilder, TlsError> {
        // Whoever installed one before has made the same choice: there is no other in this workspace.
        let _ = ring::default_provider().install_default();
        let unusable = |error: reqwest::Error| TlsError::Tls(error.to_string());
        let both = [self.key.as_slice(), self.certificate.as_slice()].join(&b'\n');
        let identity = reqwest::Identity::from_pem(&both).map_err(unusable)?;
        let authorities = reqwest::Certificate::from_pem_bundle(&self.authority).map_err(unusable)?;
        Ok(reqwest::Client::builder()
            .identity(identity)
            .tls_certs_only(authorities)
            .tls_version_min(reqwest::tls::Version::TLS_1_3)
            .https_only(true)
            .http2_prior_knowledge()
            .tcp_nodelay(true)
            .no_proxy()
            .resolve(peer, addr))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub addr: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Peer {
    /// Its certificate is for this name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        ParsedCertificate::try_from(&self.certificate).is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A connection, and who is at its other end.
type Admitted = (TlsStream<TcpStream>, Peer);

/// Takes connections of those who hold a certificate of our authority, and if `only` says so, of them alone whose
/// certificate is for that name. Handshakes do not keep others waiting.
pub struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    only: Option<Arc<str>>,
    handshakes: JoinSet<(IpAddr, Option<Admitted>)>,
    /// How many of them there are with each address.
    with: HashMap<IpAddr, u32>,
}

impl TlsListener {
    /// # Errors
    /// Certificate, key or authority cannot be used.
    pub fn new(listener: TcpListener, identity: &Identity, only: Option<&str>) -> Result<Self, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
        Ok(Self { listener, acceptor, only: only.map(Into::into), handshakes: JoinSet::new(), with: HashMap::new() })
    }
}

/// Who it is, if that is in order and in time.
async fn admit(stream: TcpStream, addr: SocketAddr, acceptor: TlsAcceptor, only: Option<Arc<str>>) -> Option<Admitted> {
    match timeout(HANDSHAKE, shake_hands(stream, addr, &acceptor, only.as_deref())).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(why)) => tracing::warn!(%addr, why, "a connection was refused"),
        Err(_) => tracing::warn!(%addr, "a handshake took too long"),
    }
    None
}

async fn shake_hands(stream: TcpStream, addr: SocketAddr, acceptor: &TlsAcceptor, only: Option<&str>) -> Result<Admitted, String> {
    // Tokens are small and must not wait for company.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = Peer { addr, certificate: certificate.ok_or("it showed no certificate")?.clone().into_owned() };
    match only {
        Some(name) if !peer.is(name) => Err(format!("its certificate is not for {name}")),
        _ => Ok((stream, peer)),
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                // axum's own way: logs, and waits a little where descriptors have run out.
                (stream, addr) = Listener::accept(&mut self.listener), if self.handshakes.len() < AT_ONCE => {
                    let with = self.with.entry(addr.ip()).or_default();
                    if *with < WITH_ONE {
                        *with += 1;
                        let admitted = admit(stream, addr, self.acceptor.clone(), self.only.clone());
                        self.handshakes.spawn(async move { (addr.ip(), admitted.await) });
                    }
                }
                Some(done) = self.handshakes.join_next() => {
                    // A handshake that panicked keeps its place; there is no other way to lose one.
                    let Ok((ip, connection)) = done else { continue };
                    if let Entry::Occupied(mut with) = self.with.entry(ip) {
                        *with.get_mut() -= 1;
                        if *with.get() == 0 {
                            with.remove();
                        }
                    }
                    // What failed was logged.
                    if let Some(connection) = connection {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Peer { addr: self.listener.local_addr()?, certificate: CertificateDer::from_slice(&[]) })
    }
}
