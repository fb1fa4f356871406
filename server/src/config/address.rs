//! Addresses of other servers, which are shown in logs, metrics and traces.

use url::{ParseError, Url};

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// No host, or nothing that could be one.
    Host,
    /// A name or a password before the host.
    Credentials,
    /// Something after a `?` or a `#`.
    Extras,
}

/// What is wrong with it; the answer repeats nothing of it.
pub(super) fn fault(address: &str) -> Option<Fault> {
    let url = match Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) | Err(ParseError::RelativeUrlWithoutBase) => return Some(Fault::Scheme),
        Err(_) => return Some(Fault::Host),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Some(Fault::Credentials);
    }
    (url.query().is_some() || url.fragment().is_some()).then_some(Fault::Extras)
}

#[cfg(test)]
mod tests {
    use super::{Fault, fault};

    #[test]
    fn an_address_is_a_host_and_a_path() {
        for good in ["https://llm.example.org/v1", "http://127.0.0.1:8000", "http://[::1]:4318/v1/traces", "https://x/a@b"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for (bad, expected) in [
            ("llm.example.org", Fault::Scheme),
            ("llm.example.org:8000/v1", Fault::Scheme),
            ("ftp://llm.example.org", Fault::Scheme),
            ("", Fault::Scheme),
            ("https://", Fault::Host),
            ("https://x:port/", Fault::Host),
            ("https://kim:secret@x/v1", Fault::Credentials),
            ("https://token@x/v1", Fault::Credentials),
            ("https:\\\\kim:secret@x", Fault::Credentials),
            ("https://x/v1?key=secret", Fault::Extras),
            ("https://x/v1#secret", Fault::Extras),
        ] {
            assert_eq!(fault(bad), Some(expected), "{bad}");
        }
    }
}
