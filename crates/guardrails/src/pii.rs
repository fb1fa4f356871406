//! Data about people in German and English texts.

mod email;
mod names;
mod numbers;
mod person;
mod phone;
mod stretches;
#[cfg(test)]
mod tests;

use crate::{
    policy::{Entities, Entity},
    view::{Hit, View, What},
};

/// Kinds of numbers, the surest first. A digit belongs to one of them only, so one cannot be looked for without the others.
const NUMBERS: [Entity; 4] = [Entity::Iban, Entity::CreditCard, Entity::TaxId, Entity::Phone];

/// Compiles what the search for these needs, so that nobody waits for it later.
pub(crate) fn prepare(wanted: Entities) {
    scan(View::whole("Herr Weber 030 1234567, @"), wanted, &mut Vec::new());
}

/// Adds what is found; says where begins what is not decided yet.
pub(crate) fn scan(view: View<'_>, wanted: Entities, hits: &mut Vec<Hit>) -> usize {
    let mut undecided = view.text.len();
    if NUMBERS.iter().any(|entity| wanted.contains(*entity)) {
        let mut found = Vec::new();
        undecided = undecided.min(numbers::scan(view, &mut found));
        hits.extend(found.into_iter().filter(|hit| hit.what.entity().is_some_and(|entity| wanted.contains(entity))));
    }
    if wanted.contains(Entity::Email) {
        undecided = undecided.min(email::scan(view, hits));
    }
    if wanted.contains(Entity::Person) {
        undecided = undecided.min(person::scan(view, hits));
    }
    undecided
}

const fn entity(entity: Entity) -> What {
    What::Entity(entity)
}
