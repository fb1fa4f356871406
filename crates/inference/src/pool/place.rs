//! Where a piece of work went, for its span.

use super::backend::Backend;
use telemetry::{KeyValue, Trace};

/// Names the member in the span that asks it.
pub(super) fn name(member: &str, backend: &dyn Backend) {
    Trace::here().set(|| {
        let (host, port) = host_and_port(backend.address());
        let host = (!host.is_empty()).then(|| KeyValue::new("server.address", host.to_owned()));
        let port = port.map(|port| KeyValue::new("server.port", i64::from(port)));
        [Some(KeyValue::new("kontor.member", member.to_owned())), host, port].into_iter().flatten()
    });
}

/// Of an address with scheme. Credentials and paths stay behind.
fn host_and_port(base: &str) -> (&str, Option<u16>) {
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    match authority.rsplit_once(':') {
        // An IPv6 address ends with a bracket.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().or(default)),
        _ => (authority, default),
    }
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn an_address_gives_host_and_port_and_nothing_else() {
        for (base, expected) in [
            ("http://127.0.0.1:41234", ("127.0.0.1", Some(41234))),
            ("https://llm.example.org/v1", ("llm.example.org", Some(443))),
            ("https://kim:secret@llm.example.org:8443/v1?key=secret", ("llm.example.org", Some(8443))),
            ("http://[::1]:8080/v1", ("[::1]", Some(8080))),
            ("http://[::1]/v1", ("[::1]", Some(80))),
            ("", ("", None)),
        ] {
            assert_eq!(host_and_port(base), expected, "{base}");
        }
    }
}
