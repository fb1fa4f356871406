//! From a key in a header to an [`Actor`].

use crate::{Gateway, failure::Failure};
use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Extensions, HeaderMap, HeaderName, header, request::Parts},
};
use contract::ids::RequestId;
use domain::{Action, Actor, DataClass, Error};
use std::net::SocketAddr;
use uuid::Uuid;

/// The header that says how closely the request's data is kept, if closer than the account's.
pub const CLASS_HEADER: &str = "x-kontor-data-class";
static CLASS: HeaderName = HeaderName::from_static(CLASS_HEADER);

/// Whose key it is. A route that takes it refuses everybody without one, and every key that may not use models.
pub struct Caller(pub Actor);

impl FromRequestParts<Gateway> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Failure> {
        let request = request_id(&parts.extensions);
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
        let Some(key) = key(&parts.headers) else {
            let message = "You sent no key. Send it in the header `Authorization: Bearer sk-kontor-\u{2026}`.".into();
            return Err(Failure::of(Error::Unauthenticated { code: "invalid_api_key", message }, request));
        };
        let refused = |error| Failure::of(error, request);
        let actor = gateway.identity.authenticate_key(key, address, request).await.map_err(refused)?;
        // Services ask, too; here it is where it is noted.
        actor.may(Action::UseModels).inspect_err(|_| gateway.identity.note_forbidden(&actor)).map_err(refused)?;
        Ok(Self(raised(actor, &parts.headers)?))
    }
}

/// The id of the request with these extensions, which whoever mounts the routes puts there.
pub fn request_id(extensions: &Extensions) -> RequestId {
    extensions.get().copied().unwrap_or(RequestId(Uuid::nil()))
}

/// A caller may say that this is more guarded than what it usually brings. Who says less is not heard: that is the administrator's.
fn raised(actor: Actor, headers: &HeaderMap) -> Result<Actor, Failure> {
    headers.get_all(&CLASS).iter().try_fold(actor, |actor, value| match value.to_str().ok().and_then(DataClass::named) {
        Some(class) => Ok(actor.raised_to(class)),
        None => {
            let message = format!("The header {CLASS} is public, internal, confidential or restricted.");
            Err(Failure::invalid(CLASS_HEADER, "unknown_value", message))
        }
    })
}

/// The key that a request comes with: OpenAI's clients send a bearer token, Anthropic's `x-api-key`. It may be none of ours.
#[must_use]
pub fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let plain = || headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim);
    bearer.or_else(plain).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::key;
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn a_key_comes_as_bearer_token_or_on_its_own() {
        let found = |name: &'static str, value: &'static str| {
            let headers: HeaderMap = [(axum::http::HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect();
            key(&headers).map(str::to_owned)
        };
        assert_eq!(found("authorization", "Bearer sk-1").as_deref(), Some("sk-1"));
        assert_eq!(found("authorization", "bearer  sk-1 ").as_deref(), Some("sk-1"));
        assert_eq!(found("x-api-key", "sk-1").as_deref(), Some("sk-1"));
        assert_eq!(found("authorization", "Basic abc"), None);
        assert_eq!(found("authorization", "Bearer "), None);
        assert_eq!(found("x-other", "sk-1"), None);
    }
}
