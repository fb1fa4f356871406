//! Where formulas are typeset: at once, or in a browser whose modules are split as soon as that module has arrived.
//! Few answers have formulas, and what typesets them is a tenth of the whole bundle.

/// What became of a formula.
pub enum Typeset {
    /// Its MathML; `None` if it is not one that can be typeset.
    Done(Option<String>),
    /// The module is on its way; see [`arrived`].
    #[cfg_attr(not(all(feature = "split", target_family = "wasm")), expect(dead_code, reason = "everything is in one module here"))]
    Pending,
}

#[cfg(not(all(feature = "split", target_family = "wasm")))]
mod here {
    use super::{super::math, Typeset};

    /// Typesets a formula.
    pub fn typeset(latex: &str, display: bool) -> Typeset {
        Typeset::Done(math::typeset(latex, display))
    }

    /// Whether formulas are typeset at once.
    pub fn arrived() -> bool {
        true
    }
}

#[cfg(all(feature = "split", target_family = "wasm"))]
mod here {
    use super::{super::math, Typeset};
    use leptos::{prelude::*, task::spawn_local};
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    thread_local! {
        static ARRIVED: ArcRwSignal<bool> = ArcRwSignal::new(false);
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }

    #[leptos::lazy]
    fn typeset_formula(latex: String, display: bool) -> Option<String> {
        math::typeset(&latex, display)
    }

    /// Typesets a formula if the module is there; otherwise asks for it, once.
    pub fn typeset(latex: &str, display: bool) -> Typeset {
        if !ARRIVED.with(GetUntracked::get_untracked) {
            if !ASKED.replace(true) {
                spawn_local(async {
                    __preload_typeset_formula().await;
                    ARRIVED.with(|arrived| arrived.set(true));
                });
            }
            return Typeset::Pending;
        }
        // With the module there, the call is over at its first poll.
        match pin!(typeset_formula(latex.to_owned(), display)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(mathml) => Typeset::Done(mathml),
            Poll::Pending => Typeset::Pending,
        }
    }

    /// Whether formulas are typeset at once; changes when the module arrives.
    pub fn arrived() -> bool {
        ARRIVED.with(Get::get)
    }
}

pub use here::{arrived, typeset};
