//! The keys of upstreams that the database keeps, sealed (ADR 21): who sets them, and how the pool gets them.

use domain::{Error, Result, secret::Secret};
use identity::sealing::{KeyKeeper, MasterKeys, Sealed};
use inference::{Credential, Pool};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{Db, Reason, SystemTx, Topic, Watched, audit::AuditEvent, upstream_credentials::UpstreamCredential};
use tokio_util::sync::CancellationToken;

/// The database is asked this often whether keys changed. A key that cannot be opened is tried again as often: its master key
/// may have come.
const LOOK: Duration = Duration::from_secs(1);
/// What a seal belongs to, before the upstream's name.
const SEALED_AS: &str = "upstream ";

/// See the module. Methods that change something take the name of who acts, for the audit trail. Clones share everything.
#[derive(Clone)]
pub struct UpstreamCredentials {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    pool: Pool,
    keeper: Arc<dyn KeyKeeper>,
    known: Watched<Vec<UpstreamCredential>>,
    shown: Mutex<Shown>,
}

/// What the pool was told last.
#[derive(Default)]
struct Shown {
    rows: Option<Arc<Vec<UpstreamCredential>>>,
    faulty: bool,
}

/// How a key of the database fares on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub upstream: String,
    /// Why it cannot be opened; `None`: it can.
    pub fault: Option<String>,
}

/// With which master key everything is sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// With a new one, which is kept where the others are; those that nothing needs any more are removed from there.
    New,
    /// With the first of those that are kept, which somebody put there. Nothing is written there.
    First,
}

/// What a change of the master key came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the one that seals from now on.
    pub key_id: String,
    /// How many keys of upstreams were sealed anew.
    pub resealed: usize,
}

impl UpstreamCredentials {
    /// For the upstreams of `pool`, with the master keys of `keeper`. Starts nothing; see [`UpstreamCredentials::tend`].
    #[must_use]
    pub fn new(db: Db, pool: Pool, keeper: Arc<dyn KeyKeeper>) -> Self {
        let (known, shown) = (Watched::new(Topic::UpstreamCredentials), Mutex::default());
        Self { inner: Arc::new(Inner { db, pool, keeper, known, shown }) }
    }

    /// Keeps a key of an upstream, in the place of the one that it has. It is in force everywhere within two seconds. The first
    /// one of all makes a master key, unless there is one. Whether any node knows the upstream is not asked. The id of the master
    /// key that seals it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `key` if it is empty or cannot be sent, on `upstream` if that is empty; [`Error::Conflict`] if the
    /// master key is missing (`master_key_missing`) or is another one than that of the other upstreams (`upstream_key_unopened`);
    /// [`Error::Internal`] if it cannot be read or kept.
    pub async fn set(&self, by: &str, upstream: &str, key: &Secret) -> Result<String> {
        check(upstream, key)?;
        let tx = self.begin(by).await?;
        let there = tx.upstream_credentials().locked().await?;
        let keys = self.keys_to_seal_with(&there)?;
        refuse_foreign(&keys, &there, upstream)?;
        let sealed = keys.seal(&label(upstream), key)?;
        tx.upstream_credentials().set(upstream, sealed.bytes, &sealed.key_id, by).await?;
        let event = AuditEvent::new(by, "upstream_key.set").target(upstream).detail("master_key", sealed.key_id.clone());
        tx.audit(&event, None).await?;
        tx.commit().await?;
        Ok(sealed.key_id)
    }

    /// All keys that are kept, still sealed.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn list(&self, by: &str) -> Result<Vec<UpstreamCredential>> {
        let tx = self.begin(by).await?;
        let there = tx.upstream_credentials().list().await?;
        tx.commit().await?;
        Ok(there)
    }

    /// Forgets an upstream's key. Within two seconds it is asked with the configured one, or without any, everywhere.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none is kept.
    pub async fn remove(&self, by: &str, upstream: &str) -> Result<()> {
        let tx = self.begin(by).await?;
        tx.upstream_credentials().remove(upstream).await?;
        tx.audit(&AuditEvent::new(by, "upstream_key.removed").target(upstream), None).await?;
        tx.commit().await
    }

    /// Seals all keys anew with another master key, all or none of them. Wherever it breaks off, each can be opened with a master
    /// key that is kept, and it can be done again: a new one is kept before anything is sealed with it, an old one is removed
    /// only after nothing needs it any more.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a key cannot be opened; nothing is changed then. [`Error::Internal`] if master keys cannot be read
    /// or kept.
    pub async fn rotate(&self, by: &str, successor: Successor) -> Result<Rotated> {
        let tx = self.begin(by).await?;
        let there = tx.upstream_credentials().locked().await?;
        let before = self.keys_to_seal_with(&there)?;
        let opened = there.iter().map(|row| named(&before, row)).collect::<Result<Vec<(String, Secret)>>>()?;
        let keys = match successor {
            Successor::First => before,
            Successor::New => {
                let keys = before.renewed();
                self.inner.keeper.write(&keys).map_err(Error::internal)?;
                keys
            }
        };
        for (upstream, key) in &opened {
            let sealed = keys.seal(&label(upstream), key)?;
            tx.upstream_credentials().reseal(upstream, sealed.bytes, &sealed.key_id).await?;
        }
        let event = AuditEvent::new(by, "master_key.rotated").target(keys.id()).detail("resealed", opened.len());
        tx.audit(&event, None).await?;
        tx.commit().await?;
        if successor == Successor::New {
            self.forget_old_keys(by).await?;
        }
        Ok(Rotated { key_id: keys.id().to_owned(), resealed: opened.len() })
    }

    /// How the kept keys fare on this node. Changes nothing.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn check(&self) -> Result<Vec<Checked>> {
        let there = self.inner.db.upstream_credentials().await?;
        let opened = self.open_all(&there);
        Ok(opened.into_iter().map(|(row, opened)| Checked { upstream: row.upstream.clone(), fault: opened.err() }).collect())
    }

    /// Lets the pool ask its upstreams with what is kept now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database does not answer; the pool goes on as it did.
    pub async fn apply(&self) -> Result<()> {
        let mut rows = self.rows().await?;
        if self.is_shown(&rows) {
            return Ok(());
        }
        if self.open_all(&rows).iter().any(|(_, opened)| opened.is_err()) {
            // They may have been sealed anew since they were read, and the old master key be gone.
            self.inner.known.doubt();
            rows = self.rows().await?;
        }
        let opened = self.open_all(&rows);
        self.show(&opened);
        let faulty = opened.iter().any(|(_, opened)| opened.is_err());
        *self.inner.shown.lock().unwrap_or_else(PoisonError::into_inner) = Shown { rows: Some(rows.clone()), faulty };
        Ok(())
    }

    /// Keeps the pool's credentials fresh until `stop`.
    pub async fn tend(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if let Err(error) = self.apply().await {
                tracing::warn!(%error, "it could not be found out whether keys of upstreams changed");
            }
        }
    }

    async fn begin(&self, by: &str) -> Result<SystemTx> {
        self.inner.db.begin_system(by, Reason::Administration).await
    }

    async fn rows(&self) -> Result<Arc<Vec<UpstreamCredential>>> {
        let db = &self.inner.db;
        self.inner.known.not_older_than(LOOK / 2, db, |_| db.upstream_credentials()).await
    }

    fn is_shown(&self, rows: &Arc<Vec<UpstreamCredential>>) -> bool {
        let shown = self.inner.shown.lock().unwrap_or_else(PoisonError::into_inner);
        !shown.faulty && shown.rows.as_ref().is_some_and(|last| Arc::ptr_eq(last, rows))
    }

    /// The keys, or why they cannot be opened.
    fn open_all<'a>(&self, rows: &'a [UpstreamCredential]) -> Vec<(&'a UpstreamCredential, Result<Secret, String>)> {
        // Who keeps no keys needs no master key.
        if rows.is_empty() {
            return Vec::new();
        }
        let keys = match self.inner.keeper.read() {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => Err("there is no master key on this node".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        rows.iter().map(|row| (row, keys.as_ref().map_err(Clone::clone).and_then(|keys| open(keys, row)))).collect()
    }

    fn show(&self, opened: &[(&UpstreamCredential, Result<Secret, String>)]) {
        for upstream in self.inner.pool.upstreams() {
            let kept = opened.iter().find(|(row, _)| row.upstream == upstream);
            let credential = match kept {
                None => Credential::Configured,
                Some((_, Ok(key))) => Credential::Key(key.clone()),
                Some((_, Err(why))) => Credential::Unusable(format!("its key cannot be opened: {why}")),
            };
            if !self.inner.pool.show_credential(&upstream, &credential) {
                continue;
            }
            match credential {
                Credential::Configured => tracing::info!(upstream, "is asked as configured, since no key is kept for it"),
                Credential::Key(_) => tracing::info!(upstream, "is asked with the key that is kept for it"),
                Credential::Unusable(why) => tracing::error!(upstream, why, "is out of service"),
            }
        }
    }

    /// The master keys. Called under the lock, so that two processes do not make them at the same time.
    fn keys_to_seal_with(&self, there: &[UpstreamCredential]) -> Result<MasterKeys> {
        match self.inner.keeper.read().map_err(Error::internal)? {
            Some(keys) => Ok(keys),
            None if there.is_empty() => {
                let keys = MasterKeys::random();
                self.inner.keeper.write(&keys).map_err(Error::internal)?;
                Ok(keys)
            }
            None => {
                let ids: BTreeSet<&str> = there.iter().map(|row| row.key_id.as_str()).collect();
                let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
                let message = format!("There is no master key, but keys are kept that {ids} opens: put it back, or remove them.");
                Err(Error::conflict("master_key_missing", message))
            }
        }
    }

    /// Under the lock as well: a rotation somewhere else may just have kept its new key.
    async fn forget_old_keys(&self, by: &str) -> Result<()> {
        let tx = self.begin(by).await?;
        let there = tx.upstream_credentials().locked().await?;
        if let Some(keys) = self.inner.keeper.read().map_err(Error::internal)? {
            let keys = keys.keeping(|id| there.iter().any(|row| row.key_id == id));
            self.inner.keeper.write(&keys).map_err(Error::internal)?;
        }
        tx.commit().await
    }
}

impl fmt::Debug for UpstreamCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamCredentials").finish_non_exhaustive()
    }
}

/// What the seal of an upstream's key belongs to.
fn label(upstream: &str) -> String {
    format!("{SEALED_AS}{upstream}")
}

fn open(keys: &MasterKeys, row: &UpstreamCredential) -> Result<Secret, String> {
    let sealed = Sealed { bytes: row.sealed.clone(), key_id: row.key_id.clone() };
    keys.open(&label(&row.upstream), &sealed).map_err(|why| why.to_string())
}

/// The same with the upstream's name.
fn named(keys: &MasterKeys, row: &UpstreamCredential) -> Result<(String, Secret)> {
    let upstream = row.upstream.clone();
    match open(keys, row) {
        Ok(key) => Ok((upstream, key)),
        Err(why) => Err(Error::conflict("upstream_key_unopened", format!("The key of {upstream} cannot be opened: {why}."))),
    }
}

/// The node of whoever commands may have another file than those that serve: they could not open what it seals. The key that is
/// replaced does not count.
fn refuse_foreign(keys: &MasterKeys, there: &[UpstreamCredential], upstream: &str) -> Result<()> {
    let foreign: Vec<&str> =
        there.iter().filter(|row| row.upstream != upstream && !keys.has(&row.key_id)).map(|row| row.upstream.as_str()).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let message = format!(
        "The master key {} of this node does not open what is kept for {}: bring the right master key file here, or remove it with \
         remove-upstream-key.",
        keys.id(),
        foreign.join(", ")
    );
    Err(Error::conflict("upstream_key_unopened", message))
}

fn check(upstream: &str, key: &Secret) -> Result<()> {
    if upstream.is_empty() {
        return Err(Error::invalid("upstream", "empty", "The upstream needs a name."));
    }
    if key.reveal().is_empty() {
        return Err(Error::invalid("key", "empty", "The key is empty; it is read from standard input."));
    }
    if !key.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("key", "not_sendable", "The key has spaces or other characters that no header can hold."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use domain::{Error, secret::Secret};

    #[test]
    fn what_is_no_key_is_refused_without_being_told() {
        assert!(check("vllm", &Secret::new("sk-Proj_1./+=")).is_ok());
        for wrong in ["", "horse battery", "horse\nbattery", "hörse"] {
            let error = check("vllm", &Secret::new(wrong)).expect_err("no key");
            assert!(matches!(error, Error::Invalid { field: Some("key"), .. }), "{error}");
            assert!(!error.to_string().contains("rse"), "{error}");
        }
        assert!(matches!(check("", &Secret::new("sk")), Err(Error::Invalid { field: Some("upstream"), .. })));
    }
}
