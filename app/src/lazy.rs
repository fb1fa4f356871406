//! Pages whose code the browser fetches only when somebody goes there, so that the chat loads fast.

/// Makes a type for each page that a route can name as `Lazy::<Name>::new()`.
///
/// With the feature `split` each becomes a WebAssembly module of its own, which takes `cargo leptos … --split`.
/// Without it (`cargo leptos watch`) the same routes are part of the one bundle.
macro_rules! lazy_pages {
    ($($name:ident => $page:path),* $(,)?) => {$(
        struct $name;

        #[cfg(feature = "split")]
        #[leptos_router::lazy_route]
        impl leptos_router::LazyRoute for $name {
            fn data() -> Self {
                Self
            }

            fn view(_this: Self) -> AnyView {
                $page().into_any()
            }
        }

        #[cfg(not(feature = "split"))]
        impl leptos_router::LazyRoute for $name {
            fn data() -> Self {
                Self
            }

            async fn view(_this: Self) -> AnyView {
                $page().into_any()
            }
        }
    )*};
}

pub(crate) use lazy_pages;
