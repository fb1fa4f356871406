//! API keys: from a key to an [`Actor`].
//!
//! A node holds all keys in memory, as hashes ([`Watched`]). So a key costs a lookup and no question, a wrong one as much
//! as a right one, and what was disabled is refused everywhere within two seconds.

use crate::{Identity, token};
use contract::{
    Millis,
    ids::{ApiKeyId, RequestId, TenantId},
    key::Scope,
};
use domain::{Actor, DataClass, Error, Program, Result, secret::Secret};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use store::{
    Topic, Watched,
    api_keys::{Authority, KeyHash},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What every key begins with, so that scanners for leaked secrets find it.
pub const KEY_PREFIX: &str = "sk-kontor-";
/// The database is asked this often whether keys changed.
const LOOK: Duration = Duration::from_secs(1);
/// A key that nobody knows may have been made since the last question, if that was so long ago.
const NEWS: Duration = Duration::from_millis(20);
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

/// All keys, by their hashes.
pub(crate) type KeyRing = Watched<HashMap<KeyHash, Key>>;

pub(crate) fn ring() -> KeyRing {
    Watched::new(Topic::Keys)
}

#[derive(Debug)]
pub(crate) struct Key {
    tenant: TenantId,
    tenant_slug: Arc<str>,
    /// Of the account's data.
    class: DataClass,
    program: Arc<Program>,
    networks: Vec<IpNet>,
    expires_at: Option<Millis>,
    disabled: bool,
    /// 0: not since it was last written.
    used_at: AtomicI64,
}

impl Identity {
    /// Who holds this key. `address` is where the call came from.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with code `invalid_api_key`; [`Error::Forbidden`] from a foreign network;
    /// [`Error::Unavailable`] when keys cannot be read.
    pub async fn authenticate_key(&self, key: &str, address: Option<IpAddr>, request: RequestId) -> Result<Actor> {
        let unknown = |message| {
            self.db().refusals().of_unknown("unknown_key", request);
            invalid(message)
        };
        let hash = key.strip_prefix(KEY_PREFIX).and_then(token::hash).ok_or_else(|| unknown("This is not a key of Kontor."))?;
        let mut known = self.keys_not_older_than(LOOK * 2).await?;
        if !known.contains_key(&hash) {
            known = self.keys_not_older_than(NEWS).await?;
        }
        let key = known.get(&hash).ok_or_else(|| unknown("There is no such key."))?;
        let within = |address: IpAddr| key.networks.iter().any(|network| network.contains(&address.to_canonical()));
        let foreign = !key.networks.is_empty() && !address.is_some_and(within);
        let foreign = || foreign.then(|| ("foreign_network", Error::forbidden("This key may not be used from this address.")));
        self.open(key, request, foreign)
    }

    /// Who holds this key now, for work that was asked for with it earlier. From where is not asked again: it was when
    /// the work was.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with code `invalid_api_key`; [`Error::Unavailable`] when keys cannot be read.
    pub async fn authenticate_later(&self, tenant: TenantId, key: ApiKeyId, request: RequestId) -> Result<Actor> {
        let known = self.keys_not_older_than(LOOK * 2).await?;
        let key = known.values().find(|known| known.tenant == tenant && known.program.key == key);
        let key = key.ok_or_else(|| invalid("There is no such key any more."))?;
        self.open(key, request, || None)
    }

    /// Counts for the audit trail that an actor was refused what neither a role nor a scope of theirs allows.
    pub fn note_forbidden(&self, actor: &Actor) {
        self.db().refusals().of(actor, "forbidden", "");
    }

    /// Whoever holds a key that there is, unless something keeps it shut.
    fn open(&self, key: &Key, request: RequestId, shut: impl FnOnce() -> Option<(&'static str, Error)>) -> Result<Actor> {
        let now = self.now();
        let actor = key.actor(request);
        if let Some((reason, error)) = key.ended(now).or_else(shut) {
            self.db().refusals().of(&actor, reason, "");
            return Err(error);
        }
        key.used_at.store(now, Relaxed);
        Ok(actor)
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

    async fn keys_not_older_than(&self, age: Duration) -> Result<Arc<HashMap<KeyHash, Key>>> {
        let read = |before: Option<Arc<HashMap<KeyHash, Key>>>| async move {
            let authorities = self.db().authorities().await?;
            let used_at = |hash: &KeyHash| before.as_ref().and_then(|keys| keys.get(hash)).map_or(0, |key| key.used_at.load(Relaxed));
            Ok(authorities.into_iter().filter_map(|authority| readable(used_at(&authority.hash), authority)).collect())
        };
        self.inner.keys.not_older_than(age, self.db(), read).await
    }

    async fn note_key_uses(&self) {
        let Some(known) = self.inner.keys.last() else { return };
        let used = |key: &Key| Some((key.program.key, key.used_at.swap(0, Relaxed))).filter(|(_, at)| *at > 0);
        let uses: Vec<(ApiKeyId, Millis)> = known.values().filter_map(used).collect();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.db().keys_used(&uses).await {
            tracing::warn!(%error, "the last use of keys could not be noted");
        }
    }
}

impl Key {
    /// Whoever holds it.
    fn actor(&self, request: RequestId) -> Actor {
        Actor::program(self.tenant, self.program.clone(), request).classified(self.tenant_slug.clone(), self.class)
    }

    /// Why it opens nothing any more, in a word for the audit trail and for whoever holds it.
    fn ended(&self, now: Millis) -> Option<(&'static str, Error)> {
        if self.disabled {
            return Some(("disabled_key", invalid("This key is disabled.")));
        }
        self.expires_at.is_some_and(|at| at <= now).then(|| ("expired_key", invalid("This key has expired.")))
    }
}

/// A key that this version cannot read is refused, and does not keep the others from being read.
fn readable(used_at: Millis, authority: Authority) -> Option<(KeyHash, Key)> {
    let (hash, id) = (authority.hash, authority.key);
    key(used_at, authority)
        .inspect_err(|error| tracing::error!(%error, key = %id, "a key cannot be read and is refused"))
        .ok()
        .map(|key| (hash, key))
}

fn key(used_at: Millis, authority: Authority) -> Result<Key> {
    let networks = authority.networks.iter().map(|text| text.parse().map_err(Error::internal)).collect::<Result<_>>()?;
    let of_key: Option<BTreeSet<String>> = authority.key_models.map(|models| models.into_iter().collect());
    let models = match (authority.account_models, of_key) {
        (None, of_key) => of_key,
        (Some(of_account), None) => Some(of_account.into_iter().collect()),
        // A key opens no more than its account.
        (Some(of_account), Some(of_key)) => Some(of_account.into_iter().filter(|model| of_key.contains(model)).collect()),
    };
    let scope = |name: &String| Scope::named(name).ok_or_else(|| Error::internal(format!("unknown scope {name:?}")));
    let scopes = authority.scopes.iter().map(scope).collect::<Result<_>>()?;
    let class = DataClass::named(&authority.data_class);
    Ok(Key {
        tenant: authority.tenant,
        tenant_slug: authority.tenant_slug.into(),
        class: class.ok_or_else(|| Error::internal(format!("unknown data class {:?}", authority.data_class)))?,
        program: Arc::new(Program {
            account: authority.account,
            key: authority.key,
            team: authority.team,
            cost_center: authority.cost_center,
            scopes,
            user: authority.user,
            models,
        }),
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
    use super::{Authority, KEY_PREFIX, make, readable};
    use crate::token;
    use contract::ids::{ApiKeyId, ServiceAccountId, TenantId};
    use uuid::Uuid;

    #[test]
    fn a_key_leads_to_its_hash_and_ends_with_its_hint() {
        let (key, hash, hint) = make();
        let secret = key.reveal().strip_prefix(KEY_PREFIX).expect("the prefix");
        assert_eq!(token::hash(secret), Some(hash));
        assert!(secret.ends_with(&hint) && hint.len() == 4);
    }

    fn authority() -> Authority {
        Authority {
            hash: [0; 32],
            tenant: TenantId(Uuid::nil()),
            tenant_slug: "ours".into(),
            data_class: "internal".into(),
            account: ServiceAccountId(Uuid::nil()),
            key: ApiKeyId(Uuid::nil()),
            team: String::new(),
            cost_center: String::new(),
            scopes: vec!["inference".into()],
            user: None,
            account_models: None,
            key_models: None,
            networks: Vec::new(),
            expires_at: None,
            disabled: false,
        }
    }

    #[test]
    fn a_key_opens_no_more_models_than_its_account() {
        let some = |models: &[&str]| Some(models.iter().map(|model| (*model).to_owned()).collect::<Vec<_>>());
        let opened = |account_models, key_models| {
            let (_, key) = readable(0, Authority { account_models, key_models, ..authority() }).expect("readable");
            key.program.models.clone().map(|models| models.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(opened(None, None), None);
        assert_eq!(opened(some(&["a", "b"]), None), some(&["a", "b"]));
        assert_eq!(opened(None, some(&["a"])), some(&["a"]));
        assert_eq!(opened(some(&["a", "b"]), some(&["b", "c"])), some(&["b"]));
        assert_eq!(opened(some(&["a"]), some(&["c"])), some(&[]));
    }

    #[test]
    fn what_cannot_be_read_opens_nothing() {
        assert!(readable(0, Authority { scopes: vec!["of a later version".into()], ..authority() }).is_none());
        assert!(readable(0, Authority { data_class: "of a later version".into(), ..authority() }).is_none());
        assert!(readable(0, Authority { networks: vec!["nowhere".into()], ..authority() }).is_none());
    }
}
