//! Text that must not end up in a log.

use std::fmt;
use zeroize::Zeroize;

/// A secret string: `Debug` shows nothing of it, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `BYTES` bytes from the operating system, in hexadecimal: they need no quoting anywhere.
    #[must_use]
    pub fn random<const BYTES: usize>() -> Self {
        let bytes: [u8; BYTES] = std::array::from_fn(|_| rand::random());
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The text itself. Look twice at where it goes.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_random_one_is_long_and_never_the_same() {
        let (a, b) = (Secret::random::<24>(), Secret::random::<24>());
        assert!(a.reveal().len() == 48 && a.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()) && a != b);
    }
}
