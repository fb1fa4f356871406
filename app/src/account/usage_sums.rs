//! From the ledger's rows to what the usage tab shows. Pure arithmetic.

use contract::usage::{Purpose, UsageRow};
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

/// By model and purpose, most tokens first.
#[must_use]
pub fn by_model_and_purpose(rows: &[UsageRow]) -> Vec<(String, Purpose, Sums)> {
    let mut sums: BTreeMap<(&str, Purpose), Sums> = BTreeMap::new();
    for row in rows {
        sums.entry((&row.model, row.purpose)).or_default().add(row);
    }
    let mut list: Vec<_> = sums.into_iter().map(|((model, purpose), sums)| (model.to_owned(), purpose, sums)).collect();
    list.sort_by_key(|(_, _, sums)| std::cmp::Reverse(sums.total()));
    list
}

#[cfg(test)]
mod tests {
    use super::{by_day, by_model_and_purpose, total};
    use contract::usage::{Purpose, UsageRow};

    fn row(day: &str, model: &str, purpose: Purpose, prompt: i64, cached: i64, completion: i64) -> UsageRow {
        UsageRow {
            day: day.into(),
            model: model.into(),
            purpose,
            requests: 1,
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens: completion,
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
        assert_eq!(models[0].0, "b");
        assert_eq!(
            models.iter().map(|(_, _, sums)| sums.total()).sum::<i64>(),
            all.total(),
            "If you are here because this failed: the usage tab shows figures that differ from the ledger's."
        );
    }
}
