//! From the ledger's rows to what the usage tab shows. Pure arithmetic.

use contract::usage::{Money, Purpose, UsageRow};
use std::collections::BTreeMap;

/// Figures of one day, of one model and purpose, or of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub requests: i64,
    /// All prompt tokens, cached ones included.
    pub prompt: i64,
    pub cached: i64,
    pub completion: i64,
}

impl Sums {
    fn add(&mut self, row: &UsageRow) {
        self.requests += row.requests;
        self.prompt += row.prompt_tokens;
        self.cached += row.cached_tokens;
        self.completion += row.completion_tokens;
    }

    /// Prompt tokens that the model had to read.
    #[must_use]
    pub fn read(&self) -> i64 {
        (self.prompt - self.cached).max(0)
    }

    /// Prompt and completion.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.prompt + self.completion
    }
}

/// Everything together.
#[must_use]
pub fn total(rows: &[UsageRow]) -> Sums {
    rows.iter().fold(Sums::default(), |mut sums, row| {
        sums.add(row);
        sums
    })
}

/// One entry for each of the `days`, in their order, also for those without usage.
#[must_use]
pub fn by_day(rows: &[UsageRow], days: &[String]) -> Vec<(String, Sums)> {
    let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
    for row in rows {
        sums.entry(&row.day).or_default().add(row);
    }
    days.iter().map(|day| (day.clone(), sums.get(day.as_str()).copied().unwrap_or_default())).collect()
}

/// What one model was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSums {
    pub model: String,
    pub purpose: Purpose,
    pub sums: Sums,
    /// One for each currency.
    pub cost: Vec<Money>,
}

/// By model and purpose, most tokens first.
#[must_use]
pub fn by_model_and_purpose(rows: &[UsageRow]) -> Vec<ModelSums> {
    let mut groups: BTreeMap<(&str, Purpose), Vec<&UsageRow>> = BTreeMap::new();
    for row in rows {
        groups.entry((&row.model, row.purpose)).or_default().push(row);
    }
    let group = |((model, purpose), rows): ((&str, Purpose), Vec<&UsageRow>)| {
        let mut sums = Sums::default();
        rows.iter().for_each(|row| sums.add(row));
        ModelSums { model: model.to_owned(), purpose, sums, cost: cost(rows) }
    };
    let mut list: Vec<ModelSums> = groups.into_iter().map(group).collect();
    list.sort_by_key(|one| std::cmp::Reverse(one.sums.total()));
    list
}

/// What they cost, by currency.
#[must_use]
pub fn cost<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> Vec<Money> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for cost in rows.into_iter().filter_map(|row| row.cost.as_ref()) {
        let sum = sums.entry(&cost.currency).or_default();
        *sum = sum.saturating_add(cost.pico);
    }
    sums.into_iter().map(|(currency, pico)| Money { currency: currency.to_owned(), pico }).collect()
}

#[cfg(test)]
mod tests {
    use super::{by_day, by_model_and_purpose, cost, total};
    use contract::usage::{Money, Purpose, UsageRow};

    fn row(day: &str, model: &str, purpose: Purpose, prompt: i64, cached: i64, completion: i64) -> UsageRow {
        UsageRow {
            day: day.into(),
            model: model.into(),
            purpose,
            requests: 1,
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens: completion,
            cost: None,
        }
    }

    #[test]
    fn every_view_adds_up_to_the_same_total() {
        let rows = [
            row("2024-01-01", "a", Purpose::Chat, 100, 60, 10),
            row("2024-01-01", "a", Purpose::Title, 20, 0, 4),
            row("2024-01-03", "b", Purpose::Chat, 300, 0, 50),
        ];
        let days = ["2024-01-01", "2024-01-02", "2024-01-03"].map(String::from);
        let all = total(&rows);
        assert_eq!((all.requests, all.prompt, all.cached, all.completion, all.read(), all.total()), (3, 420, 60, 64, 360, 484));
        let daily = by_day(&rows, &days);
        assert_eq!(daily.iter().map(|(_, sums)| sums.total()).collect::<Vec<_>>(), [134, 0, 350]);
        let models = by_model_and_purpose(&rows);
        assert_eq!(models[0].model, "b");
        assert_eq!(
            models.iter().map(|one| one.sums.total()).sum::<i64>(),
            all.total(),
            "If you are here because this failed: the usage tab shows figures that differ from the ledger's."
        );
    }

    #[test]
    fn costs_add_up_by_currency() {
        let paid = |model: &str, currency: &str, pico| UsageRow {
            cost: Some(Money { currency: currency.into(), pico }),
            ..row("2024-01-01", model, Purpose::Chat, 1, 0, 1)
        };
        let rows = [paid("a", "EUR", 1), paid("a", "USD", 5), paid("b", "EUR", 2), row("2024-01-01", "c", Purpose::Chat, 1, 0, 1)];
        let money = |currency: &str, pico| Money { currency: currency.into(), pico };
        assert_eq!(cost(&rows), [money("EUR", 3), money("USD", 5)]);
        let models = by_model_and_purpose(&rows);
        assert_eq!(models[0].cost, [money("EUR", 1), money("USD", 5)]);
        assert!(models.iter().any(|one| one.model == "c" && one.cost.is_empty()));
    }
}
