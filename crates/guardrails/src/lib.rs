//! A guard between people, models and other systems: it looks at what goes to a model and at what comes back, while it comes.
//!
//! ```
//! use guardrails::{Action, Check, Guard, Part, Policy, Role, Rule, Stage};
//!
//! let people = Rule {
//!     name: "people".into(),
//!     check: Check::Pii { entities: Vec::new() },
//!     on: vec![Stage::Input, Stage::Output],
//!     action: Action::Mask,
//! };
//! let guard = Guard::new(&Policy { rules: vec![people], ..Policy::default() })?;
//!
//! let mut question = "Ich heiße Weber, meine IBAN ist DE89 3704 0044 0532 0130 00.".to_owned();
//! let input = guard.input(&mut [Part { role: Role::User, text: &mut question }]);
//! assert_eq!(question, "Ich heiße [PERSON_1], meine IBAN ist [IBAN_1].");
//!
//! let mut answer = guard.output("", false, input.pseudonyms);
//! let mut seen = answer.push("Guten Tag, [PERS").text.into_owned();
//! seen.push_str(&answer.push("ON_1]!").text);
//! seen.push_str(&answer.finish().text);
//! assert_eq!(seen, "Guten Tag, Weber!");
//! # Ok::<(), guardrails::PolicyError>(())
//! ```
//!
//! It is pure: no input or output, no clock, no database. Whoever calls it decides where policies come from and what becomes
//! of decisions, which say which rule found something and how often, and never what.
//!
//! # What it can and cannot do
//!
//! Numbers with check digits (accounts, cards, tax identification numbers) are as good as certain. E-mail addresses,
//! telephone numbers and secrets have a form that little else has. Names of people are guessed from titles, introductions and
//! some six hundred first names, in German and English: some are missed, and now and then a noun is taken for one. Injections
//! are recognised by what is usually said; what is worded anew passes, unless a [`Classifier`] knows better.
//!
//! # The files
//!
//! | File | Holds |
//! |---|---|
//! | `policy.rs`, `validate.rs` | what a tenant may ask for, as data, and what is refused |
//! | `rules.rs` | a policy, compiled; which rule minds what was found |
//! | `guard.rs` | [`Guard`]: the way in, and texts to be judged |
//! | `output.rs`, `output/` | [`OutputGuard`]: the way out, over a window on the stream |
//! | `pseudonyms.rs` | what stands for values, and how they return |
//! | `decision.rs` | what is told about all this |
//! | `pii.rs`, `pii/` | personal data, a file for each kind |
//! | `secrets.rs`, `secrets/` | keys and tokens by their form; passwords by what names them |
//! | `injection.rs`, `injection/` | a text without disguise, words by class, patterns of them |
//! | `words.rs`, `prompt.rs` | words of a tenant; what the system prompt says |
//! | `view.rs`, `tokens.rs` | a text as all of these see it |
//! | `sieve.rs` | which words need a second look |
//! | `../examples/speed.rs` | what each kind of rule costs |
//! | `tricky.rs` | texts for tests of what was made fast |
//! | `begun.rs` | from a pattern to a pattern of its beginnings, so that little is kept back |
//!
//! Everything that looks for something has one shape: it takes a view of a text, adds hits, and says where begins
//! what is not decided yet. On a whole text that is its end; on a stream, what comes before may be released.

#[cfg(target_family = "wasm")]
compile_error!("`guardrails` is server-only");

mod begun;
mod decision;
mod guard;
mod injection;
mod output;
mod pii;
mod policy;
mod prompt;
mod pseudonyms;
mod rules;
mod runs;
mod secrets;
mod sieve;
mod tokens;
#[cfg(test)]
mod tricky;
mod validate;
mod view;
mod words;

pub use decision::{Decision, Finding};
pub use guard::{Guard, Input, Part, Role};
pub use injection::Classifier;
pub use output::{OutputGuard, Released};
pub use policy::{Action, Check, Entity, Images, Kind, Policy, Rule, Stage};
pub use pseudonyms::Pseudonyms;
pub use validate::PolicyError;
