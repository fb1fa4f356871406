//! What the first start creates.

use contract::account::PASSWORD_MIN_CHARS;
use domain::secret::Secret;
use serde::{Deserialize, Deserializer};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub enabled: bool,
    /// Password of both people; `None`: random ones.
    #[serde(default, deserialize_with = "secret")]
    pub password: Option<Secret>,
}

impl Bootstrap {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.password.as_ref().is_some_and(|password| password.reveal().chars().count() < PASSWORD_MIN_CHARS) {
            wrong.push(format!("`bootstrap.password`: needs at least {PASSWORD_MIN_CHARS} characters"));
        }
    }
}

/// Reads a secret; an empty one counts as absent, as compose files and charts tend to pass those.
pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()).map(Secret::new))
}
