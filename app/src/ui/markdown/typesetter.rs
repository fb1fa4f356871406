//! Where formulas are typeset: at once, or in a browser whose modules are split as soon as that module has arrived.
//! Few answers have formulas, and what typesets them is a tenth of the whole bundle.

use super::math;
use crate::lazy::{Arrival, lazy_part};

/// What became of a formula.
pub enum Typeset {
    /// Its MathML; `None` if it is not one that can be typeset.
    Done(Option<String>),
    /// The module is on its way; see [`arrived`].
    Pending,
}

lazy_part!(static FORMULAS = formulas: math::typeset as fn(&str, bool) -> Option<String>);

/// Typesets a formula if the module is there; otherwise asks for it, once.
pub fn typeset(latex: &str, display: bool) -> Typeset {
    FORMULAS.code().map_or(Typeset::Pending, |typeset| Typeset::Done(typeset(latex, display)))
}

/// Whether formulas are typeset at once; changes when the module arrives.
pub fn arrived() -> bool {
    FORMULAS.arrival() == Arrival::Here
}
