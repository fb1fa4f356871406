//! Salts that keep the prefix cache of an upstream from showing one tenant what another one asked.
//!
//! All of them ask with the same key, so a server that caches prefixes by itself would answer sooner where somebody else
//! has begun alike. vLLM shares a prefix only between requests of the same salt.

use domain::secret::Secret;
use sha2::{Digest, Sha256};

/// Parts these hashes from any other use of the key.
const CONTEXT: &[u8] = b"kontor upstream cache salt 1";

/// The salt of a partition, in hexadecimal. Without the key nobody can tell whose it is, or make it.
pub(super) fn of(key: &Secret, partition: &str) -> String {
    let key: [u8; 32] = Sha256::new().chain_update(CONTEXT).chain_update(key.reveal()).finalize().into();
    let inner: [u8; 32] = Sha256::new().chain_update(key).chain_update(partition).finalize().into();
    // Hashed once more with the key, as HMAC does: a plain hash of key and text could be gone on with.
    let salt: [u8; 32] = Sha256::new().chain_update(key).chain_update(inner).finalize().into();
    salt.iter().map(|byte| format!("{byte:02x}")).collect()
}
