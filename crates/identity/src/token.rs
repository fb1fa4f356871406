//! Session tokens: 32 random bytes, shown to the browser once, stored as a hash only.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::secret::Secret;
use sha2::{Digest, Sha256};
use store::sessions::TokenHash;

const BYTES: usize = 32;
/// Characters of a token.
const CHARS: usize = 43;
/// Room that so many characters are decoded into: the decoder wants it by whole groups of four.
const ROOM: usize = CHARS.div_ceil(4) * 3;

/// A new token and what is stored of it.
pub(crate) fn new() -> (Secret, TokenHash) {
    let token: [u8; BYTES] = rand::random();
    (Secret::new(URL_SAFE_NO_PAD.encode(token)), sha256(&token))
}

/// The stored form of what a browser sent; `None` for what cannot be a token. A plain hash is enough: the
/// token is random, there is nothing to guess.
pub(crate) fn hash(token: &str) -> Option<TokenHash> {
    if token.len() != CHARS {
        return None;
    }
    let mut decoded = [0; ROOM];
    let length = URL_SAFE_NO_PAD.decode_slice(token, &mut decoded).ok()?;
    decoded.get(..length).filter(|token| token.len() == BYTES).map(sha256)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{hash, new};

    #[test]
    fn a_token_leads_to_its_hash() {
        let (token, stored) = new();
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(hash(token.reveal()), Some(stored));
        assert_ne!(new().1, stored);
    }

    #[test]
    fn rubbish_is_no_token() {
        for rubbish in ["", "x", "äöü", &"A".repeat(42), &"A".repeat(44), &"=".repeat(43)] {
            assert_eq!(hash(rubbish), None, "{rubbish}");
        }
    }
}
