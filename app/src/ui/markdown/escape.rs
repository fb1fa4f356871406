//! The two decisions every piece of foreign text passes: how it is escaped and where a link may lead.

/// Appends `text` to `out` so that it is plain text both between tags and inside a double-quoted attribute.
///
/// Control characters that have no business in a page (everything below space but tab and line
/// breaks) are dropped: browsers disagree on them inside tags.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
}

/// The address if it may become a link: absolute `http:`, `https:` or `mailto:`, without anything a
/// browser would strip before it looks at the scheme. Everything else (`javascript:`, `data:`,
/// relative paths, which would point into this product) is `None`.
#[must_use]
pub fn safe_link(url: &str) -> Option<&str> {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let (scheme, rest) = url.split_once(':')?;
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    let ok = ((is("http") || is("https")) && rest.starts_with("//") && rest.len() > 2) || (is("mailto") && rest.contains('@'));
    ok.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_links_only_lead_outside_by_known_schemes() {
        for good in ["https://example.org/a?b=c#d", "HTTP://example.org", "mailto:a@b.example"] {
            assert_eq!(safe_link(good), Some(good), "If you are here because this failed: ordinary links must keep working.");
        }
        let bad = [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java\nscript:alert(1)",
            "java\tscript:alert(1)",
            " javascript:alert(1)",
            "\u{1}javascript:alert(1)",
            "vbscript:x",
            "data:text/html,<script>",
            "file:///etc/passwd",
            "/ui/sign_out",
            "//evil.example",
            "#x",
            "https:/evil",
            "https:",
            "mailto:",
            "",
        ];
        for url in bad {
            assert_eq!(safe_link(url), None, "{url:?}. If you are here because this failed: only http, https and mailto may become links.");
        }
    }

    #[test]
    fn markdown_escape_covers_text_and_attributes() {
        let mut out = String::new();
        push_escaped(&mut out, "<a b=\"c\" d='e'>&\u{0}\u{8}\n");
        assert_eq!(out, "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\n");
    }
}
