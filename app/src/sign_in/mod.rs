//! Signing in and out.

pub mod api;
#[cfg(feature = "ssr")]
pub mod form;
mod page;

pub use page::SignInPage;

use crate::ui::{browser::load_page, toast::Toasts};
use leptos::task::spawn_local;

/// Signs out and shows the sign-in page; says so if it did not work.
pub fn leave(toasts: Toasts) {
    spawn_local(async move {
        match api::sign_out().await {
            Ok(()) => load_page("/sign-in"),
            Err(error) => toasts.show_problem(&error),
        }
    });
}

/// The address to go to after signing in: only a path of this site, so that a link cannot send
/// people elsewhere with their fresh session.
#[must_use]
pub fn safe_next(next: Option<&str>) -> String {
    match next {
        Some(next) if next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control) => {
            next.to_owned()
        }
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::safe_next;

    #[test]
    fn signing_in_never_leads_to_another_site() {
        assert_eq!(safe_next(Some("/c/1?m=2")), "/c/1?m=2");
        for evil in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil.example", ""] {
            assert_eq!(safe_next(Some(evil)), "/", "If you are here because this failed: {evil:?} opens a redirect to another site.");
        }
        assert_eq!(safe_next(None), "/");
    }
}
