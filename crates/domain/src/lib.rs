//! The rules' vocabulary: who acts ([`Actor`]), what may be done ([`permission`]), how things fail
//! ([`Error`]) and what time it is ([`Clock`]), what things cost ([`money`]), who pays ([`quota`]) and how closely
//! data is kept ([`DataClass`]). No I/O.

#[cfg(target_family = "wasm")]
compile_error!("`domain` is server-only; the browser shares `contract`");

pub mod actor;
pub mod class;
pub mod clock;
pub mod error;
pub mod money;
pub mod permission;
pub mod quota;
pub mod secret;

pub use actor::{Actor, Caller, Program};
pub use class::DataClass;
pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use money::{Amount, Currency, Price};
pub use permission::Action;
pub use quota::{Payer, Quota};
