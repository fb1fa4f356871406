//! What is the same in all calls to an upstream, and is made once.

use super::super::backend::BackendError;
use domain::secret::Secret;
use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
};

/// The addresses that were asked, by their paths: as many as there are models and calls.
#[derive(Default)]
pub(super) struct Addresses(RwLock<HashMap<String, Url>>);

impl fmt::Debug for Addresses {
    /// Without them: they may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses")
    }
}

impl Addresses {
    /// `path` below `base`, with its query.
    ///
    /// # Errors
    /// [`BackendError::Lost`] if that is no address.
    pub(super) fn of(&self, base: &str, path: &str) -> Result<Url, BackendError> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(known.clone());
        }
        let address = Url::parse(&format!("{base}/{path}")).map_err(|error| BackendError::Lost(error.to_string()))?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), address.clone());
        Ok(address)
    }
}

/// The headers that go with the key of late.
#[derive(Debug, Default)]
pub(super) struct Signed(RwLock<Option<(Option<Secret>, HeaderMap)>>);

impl Signed {
    /// Those that go with this key; made by `make` if the one before was another one.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn with(
        &self,
        key: Option<&Secret>,
        make: impl FnOnce(Option<&Secret>) -> Result<HeaderMap, BackendError>,
    ) -> Result<HeaderMap, BackendError> {
        if let Some((of, headers)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && of.as_ref() == key
        {
            return Ok(headers.clone());
        }
        let headers = make(key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((key.cloned(), headers.clone()));
        Ok(headers)
    }

    /// Keeps none any more: the key is withdrawn.
    pub(super) fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A header's value with a key in it, which no log shows.
///
/// # Errors
/// [`BackendError::Failing`] if no header can hold it. The words tell nothing of it.
pub(super) fn secret(text: &str) -> Result<HeaderValue, BackendError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| BackendError::Failing("its key cannot be sent in a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Credential, LengthField, Upstream, UpstreamBackend, UpstreamKind},
        Addresses, BackendError, HeaderMap, Secret, Signed, secret,
    };
    use crate::clearance::Clearance;
    use std::{cell::Cell, time::Duration};

    #[test]
    fn an_address_is_the_base_and_the_path_whenever_it_is_asked() {
        let addresses = Addresses::default();
        for _ in 0..2 {
            let of = |path| addresses.of("https://kim:pw@llm.example.org/v1", path).unwrap();
            assert_eq!(of("models?limit=1").as_str(), "https://kim:pw@llm.example.org/v1/models?limit=1");
            assert_eq!(of("chat/completions").as_str(), "https://kim:pw@llm.example.org/v1/chat/completions");
        }
        assert!(!format!("{addresses:?}").contains("pw"));
        let wrong = addresses.of("llm.example.org/secret", "models");
        assert!(matches!(&wrong, Err(BackendError::Lost(told)) if !told.contains("secret")), "{wrong:?}");
    }

    #[test]
    fn headers_are_made_once_for_each_key_in_a_row() {
        let (signed, made) = (Signed::default(), Cell::new(0));
        let with = |key: Option<&Secret>| {
            let make = |key: Option<&Secret>| -> Result<HeaderMap, BackendError> {
                made.set(made.get() + 1);
                let key = key.map(|key| secret(key.reveal())).transpose()?;
                Ok(key.into_iter().map(|key| (reqwest::header::AUTHORIZATION, key)).collect::<HeaderMap>())
            };
            signed.with(key, make).map(|headers| headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()))
        };
        let (one, two) = (Secret::new("one"), Secret::new("two"));
        for (key, sent, expected) in [
            (None, None, 1),
            (None, None, 1),
            (Some(&one), Some("one"), 2),
            (Some(&one), Some("one"), 2),
            (Some(&two), Some("two"), 3),
            (None, None, 4),
        ] {
            assert_eq!(with(key).unwrap().as_deref(), sent, "If you are here because this failed: an upstream is asked with another key.");
            assert_eq!(made.get(), expected);
        }
        assert_eq!(with(Some(&one)).unwrap().as_deref(), Some("one"));
        let shown = format!("{signed:?}");
        assert!(shown.contains("Sensitive") && !shown.contains("one\""), "{shown}");
        signed.forget();
        assert_eq!(format!("{signed:?}"), format!("{:?}", Signed::default()), "nothing is left of it");
        assert_eq!((with(Some(&one)).unwrap().as_deref(), made.get()), (Some("one"), 6));
        let wrong = with(Some(&Secret::new("line\nfeed")));
        assert!(matches!(&wrong, Err(BackendError::Failing(told)) if !told.contains("feed")), "{wrong:?}");
        assert_eq!(with(Some(&one)).unwrap().as_deref(), Some("one"), "a key that cannot be sent changes nothing");
    }

    #[test]
    fn a_withdrawn_key_is_in_no_header_that_is_kept() {
        let config = Upstream {
            name: "vllm".into(),
            kind: UpstreamKind::OpenAi,
            base_url: "https://llm.example.org/v1".into(),
            key: None,
            ca_pem: None,
            order: 0,
            weight: 1,
            slots: 1,
            models: Vec::new(),
            clearance: Clearance::own(),
            length: LengthField::default(),
            structured: None,
            salt_key: None,
            believed: Duration::ZERO,
            connect: Duration::from_secs(1),
            first: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        };
        let upstream = UpstreamBackend::new(config).expect("a client");
        let nothing = format!("{:?}", upstream.signed);
        let key = Secret::new("sk-kept");
        assert!(upstream.show(&Credential::Key(key.clone())));
        upstream.signed(Some(&key)).expect("headers");
        assert_ne!(format!("{:?}", upstream.signed), nothing);
        assert!(upstream.show(&Credential::Unusable("its master key is away".into())));
        assert_eq!(format!("{:?}", upstream.signed), nothing, "If you are here because this failed: a withdrawn key stays in memory.");
    }
}
