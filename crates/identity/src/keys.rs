//! API keys: from a key to an [`Actor`].
//!
//! A node holds all keys in memory, as hashes, and asks the database once a second whether any changed. So a key costs
//! a lookup and no question, a wrong one as much as a right one, and what was disabled is refused everywhere within two
//! seconds.

use crate::{Identity, token};
use contract::{
    Millis,
    ids::{ApiKeyId, RequestId, TenantId},
};
use domain::{Actor, Error, Program, Result, secret::Secret};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use store::api_keys::{Authority, KeyHash};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

/// What every key begins with, so that scanners for leaked secrets find it.
pub const KEY_PREFIX: &str = "sk-kontor-";
/// The database is asked this often whether keys changed.
const LOOK: Duration = Duration::from_secs(1);
/// A key that nobody knows may have been made since the last question, if that was so long ago.
const NEWS: Duration = Duration::from_millis(250);
/// What is known is relied on this long while the database does not answer.
const TRUSTED_FOR: Duration = Duration::from_secs(10);
/// Last uses are written this often.
const NOTE: Duration = Duration::from_secs(60);
/// Characters of a key that are stored, for people to tell keys apart.
pub(crate) const HINT_CHARS: usize = 4;

/// A new key, its hash, and its last characters.
pub(crate) fn make() -> (Secret, KeyHash, String) {
    let (secret, hash) = token::new();
    let secret = secret.reveal();
    let hint = secret[secret.len() - HINT_CHARS..].to_owned();
    (Secret::new(format!("{KEY_PREFIX}{secret}")), hash, hint)
}

/// All keys, as one node knows them.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    known: RwLock<Option<Arc<Known>>>,
    /// Whoever holds it asks the database.
    asking: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    version: i64,
    keys: Arc<HashMap<KeyHash, Key>>,
    /// When the version was last found unchanged.
    seen: Instant,
}

#[derive(Debug)]
struct Key {
    tenant: TenantId,
    program: Arc<Program>,
    networks: Vec<IpNet>,
    expires_at: Option<Millis>,
    disabled: bool,
    /// 0: not since it was last written.
    used_at: AtomicI64,
}

impl KeyRing {
    fn known(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        known
    }
}

impl Identity {
    /// Who holds this key. `address` is where the call came from.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with code `invalid_api_key`; [`Error::Forbidden`] from a foreign network;
    /// [`Error::Unavailable`] when keys cannot be read.
    pub async fn authenticate_key(&self, key: &str, address: Option<IpAddr>, request: RequestId) -> Result<Actor> {
        let hash = key.strip_prefix(KEY_PREFIX).and_then(token::hash).ok_or_else(|| invalid("This is not a key of Kontor."))?;
        let mut known = self.keys_not_older_than(LOOK * 2).await?;
        if !known.keys.contains_key(&hash) {
            known = self.keys_not_older_than(NEWS).await?;
        }
        let key = known.keys.get(&hash).ok_or_else(|| invalid("There is no such key."))?;
        let now = self.now();
        if key.disabled {
            return Err(invalid("This key is disabled."));
        }
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(invalid("This key has expired."));
        }
        let within = |address: IpAddr| key.networks.iter().any(|network| network.contains(&address.to_canonical()));
        if !key.networks.is_empty() && !address.is_some_and(within) {
            return Err(Error::forbidden("This key may not be used from this address."));
        }
        key.used_at.store(now, Relaxed);
        Ok(Actor::program(key.tenant, key.program.clone(), request))
    }

    /// Keeps the keys fresh and notes their uses until `stop`.
    pub async fn tend_keys(&self, stop: CancellationToken) {
        let mut noted = Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if let Err(error) = self.keys_not_older_than(LOOK / 2).await {
                tracing::warn!(%error, "it could not be found out whether keys changed");
            }
            if noted.elapsed() >= NOTE {
                self.note_key_uses().await;
                noted = Instant::now();
            }
        }
        self.note_key_uses().await;
    }

    async fn keys_not_older_than(&self, age: Duration) -> Result<Arc<Known>> {
        let ring = &self.inner.keys;
        let fresh = |known: &Arc<Known>| known.seen.elapsed() <= age;
        if let Some(known) = ring.known().filter(fresh) {
            return Ok(known);
        }
        let _asking = ring.asking.lock().await;
        let before = ring.known();
        // Somebody else may have asked while this call waited for its turn.
        if let Some(known) = before.clone().filter(fresh) {
            return Ok(known);
        }
        match (self.read_keys(before.as_deref()).await, before) {
            (Ok(known), _) => Ok(ring.replace(known)),
            (Err(error), Some(known)) if known.seen.elapsed() < TRUSTED_FOR => {
                tracing::warn!(%error, "keys could not be read; those known are relied on for a few seconds");
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn read_keys(&self, before: Option<&Known>) -> Result<Known> {
        let seen = Instant::now();
        // The version first: what changes between the two questions is asked for again.
        let version = self.db().key_version().await?;
        if let Some(before) = before.filter(|before| before.version == version) {
            return Ok(Known { version, keys: before.keys.clone(), seen });
        }
        let mut keys = HashMap::new();
        for authority in self.db().authorities().await? {
            let hash = authority.hash;
            let used_at = before.and_then(|before| before.keys.get(&hash)).map_or(0, |key| key.used_at.load(Relaxed));
            keys.insert(hash, key(authority, used_at)?);
        }
        Ok(Known { version, keys: Arc::new(keys), seen })
    }

    async fn note_key_uses(&self) {
        let Some(known) = self.inner.keys.known() else { return };
        let used = |key: &Key| Some((key.program.key, key.used_at.swap(0, Relaxed))).filter(|(_, at)| *at > 0);
        let uses: Vec<(ApiKeyId, Millis)> = known.keys.values().filter_map(used).collect();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.db().keys_used(&uses).await {
            tracing::warn!(%error, "the last use of keys could not be noted");
        }
    }
}

fn key(authority: Authority, used_at: Millis) -> Result<Key> {
    let networks = authority.networks.iter().map(|text| text.parse().map_err(Error::internal)).collect::<Result<_>>()?;
    let of_key: Option<BTreeSet<String>> = authority.key_models.map(|models| models.into_iter().collect());
    let models = match (authority.account_models, of_key) {
        (None, of_key) => of_key,
        (Some(of_account), None) => Some(of_account.into_iter().collect()),
        // A key opens no more than its account.
        (Some(of_account), Some(of_key)) => Some(of_account.into_iter().filter(|model| of_key.contains(model)).collect()),
    };
    Ok(Key {
        tenant: authority.tenant,
        program: Arc::new(Program { account: authority.account, key: authority.key, scopes: authority.scopes, models }),
        networks,
        expires_at: authority.expires_at,
        disabled: authority.disabled,
        used_at: AtomicI64::new(used_at),
    })
}

fn invalid(message: &str) -> Error {
    Error::Unauthenticated { code: "invalid_api_key", message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::{KEY_PREFIX, make};
    use crate::token;

    #[test]
    fn a_key_leads_to_its_hash_and_ends_with_its_hint() {
        let (key, hash, hint) = make();
        let secret = key.reveal().strip_prefix(KEY_PREFIX).expect("the prefix");
        assert_eq!(token::hash(secret), Some(hash));
        assert!(secret.ends_with(&hint) && hint.len() == 4);
    }
}
