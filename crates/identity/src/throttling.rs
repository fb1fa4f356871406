//! How many attempts are too many.

use crate::{Identity, token::sha256};
use contract::{Millis, ids::UserId};
use domain::{Error, Quota, Result};
use std::net::IpAddr;
use store::{
    SystemTx,
    credentials::email_key,
    throttle::{ThrottleKey, ThrottleRule},
};

const MINUTE: i64 = 60_000;

/// Wrong passwords for one person.
pub(crate) const PERSON: ThrottleRule =
    ThrottleRule { limit: 5, window_ms: 15 * MINUTE, first_wait_ms: MINUTE, longest_wait_ms: 60 * MINUTE };

/// Wrong passwords from one address, which many people may share.
pub(crate) const CLIENT: ThrottleRule =
    ThrottleRule { limit: 50, window_ms: 15 * MINUTE, first_wait_ms: MINUTE, longest_wait_ms: 60 * MINUTE };

pub(crate) fn email(email: &str) -> ThrottleKey {
    sha256(format!("email:{}", email_key(email)).as_bytes())
}

/// For a password asked for once more of somebody who is signed in.
pub(crate) fn user(user: UserId) -> ThrottleKey {
    sha256(format!("user:{user}").as_bytes())
}

/// An IPv6 visitor owns a whole /64 and would otherwise have 2^64 addresses to try from.
pub(crate) fn client(address: &str) -> ThrottleKey {
    let network = match address.parse() {
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => format!("{:x?}", &v6.segments()[..4]),
        },
        _ => address.to_owned(),
    };
    sha256(format!("client:{network}").as_bytes())
}

impl Identity {
    /// Counts an attempt, or refuses it.
    pub(crate) async fn count_attempt(&self, tx: &SystemTx, key: &ThrottleKey, rule: &ThrottleRule) -> Result<()> {
        let now = self.now();
        match tx.throttle().attempt(key, rule, now).await? {
            None => Ok(()),
            Some(until) => Err(too_many(until, now)),
        }
    }
}

fn too_many(until: Millis, now: Millis) -> Error {
    Error::limited(Quota::Attempts, "sign-in attempts", u64::try_from(until - now).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{client, email};

    #[test]
    fn one_person_and_one_network_are_one_key() {
        assert_eq!(email("Ann@Example.org "), email("ann@example.org"));
        assert_eq!(client("2001:db8:1:2:3::4"), client("2001:db8:1:2:5::6"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
