//! The budgets that a person has alone.

use crate::{
    i18n::{account::AccountTexts, fill, money, use_language, use_texts},
    ui::time::{Shown, Time},
};
use contract::usage::{Money, OwnBudget};
use leptos::prelude::*;

/// From this share on, in hundredths, a budget looks like one that ends soon.
const NEARLY_SPENT: i64 = 80;

/// One card for each.
#[component]
pub fn Budgets(budgets: Vec<OwnBudget>) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    if budgets.is_empty() {
        return view! { <p class="field-hint">{t.budget_none}</p> }.into_any();
    }
    let cards = budgets.into_iter().map(|budget| view! { <Budget budget/> }).collect_view();
    view! {
        <section class="budgets" aria-label=t.budgets>
            {cards}
        </section>
    }
    .into_any()
}

#[component]
fn Budget(budget: OwnBudget) -> impl IntoView {
    let t = use_texts::<AccountTexts>();
    let language = use_language();
    let left = Money { pico: (budget.amount.pico - budget.spent.pico).max(0), ..budget.amount.clone() };
    let percent = percent(&budget);
    let name = t.budget;
    let over = budget.spent.pico >= budget.amount.pico;
    let state = if over {
        "budget-bar budget-spent"
    } else if percent >= NEARLY_SPENT {
        "budget-bar budget-nearly"
    } else {
        "budget-bar"
    };
    let spent = fill(t.budget_spent, &[("spent", &money(language, &budget.spent)), ("amount", &money(language, &budget.amount))]);
    let note = match (over, budget.hard) {
        (true, true) => t.budget_empty.to_owned(),
        (true, false) => t.budget_over.to_owned(),
        (false, _) => fill(t.budget_left, &[("left", &money(language, &left))]),
    };
    view! {
        <div class="budget">
            <div class="row justify-between">
                <span class="figure-label">{name}</span>
                <span class="field-hint">{note}</span>
            </div>
            <div
                class=state
                role="progressbar"
                aria-label=name
                aria-valuemin="0"
                aria-valuemax="100"
                aria-valuenow=percent.to_string()
                aria-valuetext=spent.clone()
            >
                <span style:width=format!("{percent}%") class:some=budget.spent.pico != 0></span>
            </div>
            <p class="field-hint">
                {spent}
                {budget
                    .ends_at
                    .map(|at| {
                        view! {
                            ". "
                            {t.budget_until}
                            " "
                            <Time at shown=Shown::Date/>
                        }
                    })}
            </p>
            <p class="field-hint">{if budget.hard { t.budget_hard } else { t.budget_soft }}</p>
        </div>
    }
    .into_any()
}

/// Hundredths that are spent, at most 100.
fn percent(budget: &OwnBudget) -> i64 {
    if budget.amount.pico <= 0 {
        return 100;
    }
    // Both are below nine million units, so the product fits.
    let share = i128::from(budget.spent.pico) * 100 / i128::from(budget.amount.pico);
    i64::try_from(share.clamp(0, 100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::percent;
    use contract::usage::{Money, OwnBudget};

    #[test]
    fn the_bar_is_full_when_the_budget_is_spent() {
        let share = |spent, amount| {
            let money = |pico| Money { currency: "EUR".into(), pico };
            percent(&OwnBudget { amount: money(amount), spent: money(spent), ends_at: None, hard: true })
        };
        assert_eq!((share(0, 10), share(5, 10), share(10, 10), share(15, 10)), (0, 50, 100, 100));
        assert_eq!(share(0, 0), 100);
        assert_eq!(share(i64::MAX / 2, i64::MAX), 49);
    }
}
