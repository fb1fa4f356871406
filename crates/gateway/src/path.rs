//! What is named in an address.

use crate::failure::Failure;
use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

/// The one thing that an address names, decoded. axum's own extractor would refuse in its own words and with plain text.
pub struct InPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(named) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(named))
    }
}
