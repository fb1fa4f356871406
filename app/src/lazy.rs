//! Pages whose code the browser fetches only when somebody goes there, so that the chat loads fast.

use crate::{
    UiError,
    ui::{browser::reload_page, problem::ProblemNotice, skeleton::SkeletonLines},
};
use contract::problem::{Problem, ProblemKind};
use leptos::prelude::*;
use std::pin::Pin;

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

/// How the code of a [`Part`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not asked for, or on its way.
    #[cfg_attr(not(all(feature = "split", target_family = "wasm")), expect(dead_code, reason = "everything is in one module here"))]
    Awaited,
    Here,
    /// The server did not send it: no network, or a newer version is running there by now.
    #[cfg_attr(not(all(feature = "split", target_family = "wasm")), expect(dead_code, reason = "everything is in one module here"))]
    Failed,
}

/// A part of a page whose code the browser fetches when it is first needed; made by [`lazy_part`].
pub struct Part<F: 'static> {
    pub(crate) code: fn() -> Option<F>,
    pub(crate) arrival: fn() -> Arrival,
    pub(crate) load: fn() -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<F> Part<F> {
    /// The code, if it is there; otherwise it is asked for.
    pub fn code(&self) -> Option<F> {
        (self.code)()
    }

    /// Whether it is there; follows what happens.
    pub fn arrival(&self) -> Arrival {
        (self.arrival)()
    }

    /// Waits until it is there, or cannot be had.
    pub async fn load(&self) {
        (self.load)().await;
    }
}

/// Makes a [`Part`]: `lazy_part!(static PART = module_name: function as fn(Argument) -> Result)`. On the server,
/// and in a bundle that is not split, its code is always there.
macro_rules! lazy_part {
    (static $part:ident = $module:ident: $function:path as $type:ty) => {
        #[cfg(not(all(feature = "split", target_family = "wasm")))]
        static $part: crate::lazy::Part<$type> = crate::lazy::Part {
            code: || Some($function),
            arrival: || crate::lazy::Arrival::Here,
            load: || Box::pin(std::future::ready(())),
        };

        #[cfg(all(feature = "split", target_family = "wasm"))]
        static $part: crate::lazy::Part<$type> = {
            // There is one thread in the browser.
            use leptos::__reexports::send_wrapper::SendWrapper;
            mod $module {
                use super::*;
                use crate::lazy::Arrival;
                use leptos::{
                    prelude::{ArcRwSignal, Get, Set},
                    wasm_split::SplitLoaderError,
                };
                use std::cell::{Cell, OnceCell};

                thread_local! {
                    static CODE: OnceCell<$type> = const { OnceCell::new() };
                    static ARRIVAL: ArcRwSignal<Arrival> = ArcRwSignal::new(Arrival::Awaited);
                    static ASKED: Cell<bool> = const { Cell::new(false) };
                }

                #[leptos::wasm_split::wasm_split($module, wasm_split_path = ::leptos::wasm_split, fallible)]
                fn $module() -> Result<$type, SplitLoaderError> {
                    Ok($function)
                }

                pub fn code() -> Option<$type> {
                    let code = CODE.with(|code| code.get().copied());
                    if code.is_none() && !ASKED.replace(true) {
                        leptos::task::spawn_local(load());
                    }
                    code
                }

                pub fn arrival() -> Arrival {
                    ARRIVAL.with(Get::get)
                }

                pub async fn load() {
                    let arrival = match $module().await {
                        Ok(function) => {
                            // A second load brings the same.
                            CODE.with(|code| {
                                code.get_or_init(|| function);
                            });
                            Arrival::Here
                        }
                        Err(_) => {
                            ASKED.set(false);
                            Arrival::Failed
                        }
                    };
                    ARRIVAL.with(|known| known.set(arrival));
                }
            }
            crate::lazy::Part { code: $module::code, arrival: $module::arrival, load: || Box::pin(SendWrapper::new($module::load())) }
        };
    };
}

pub(crate) use lazy_part;

/// Shows a [`Part`] as soon as its code is there, until then a skeleton; a problem with a way out where it cannot
/// be had.
pub fn when_arrived<F>(part: &'static Part<F>, show: impl Fn(F) -> AnyView + Send + 'static) -> impl IntoView {
    move || match (part.arrival(), part.code()) {
        (_, Some(code)) => show(code),
        (Arrival::Failed, None) => {
            let error = UiError(Problem::new(ProblemKind::Unavailable, "part_missing", "A part of this page could not be loaded."));
            let retry = Callback::new(|()| reload_page());
            view! {
                <div class="lazy-part">
                    <ProblemNotice error retry/>
                </div>
            }
            .into_any()
        }
        (_, None) => view! {
            <div class="lazy-part">
                <SkeletonLines lines=6/>
            </div>
        }
        .into_any(),
    }
}
