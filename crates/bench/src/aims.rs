//! What the engine's figures should be, and which of them are not.

use crate::report::Row;

/// Of a row, what has an aim.
#[derive(Clone, Copy, Debug)]
enum Of {
    Ours,
    Ratio,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

struct Aim {
    scenario: &'static str,
    metric: &'static str,
    /// Whatever number of clients if none is given.
    clients: Option<u32>,
    of: Of,
    limit: Limit,
}

const fn aim(scenario: &'static str, metric: &'static str, clients: Option<u32>, of: Of, limit: Limit) -> Aim {
    Aim { scenario, metric, clients, of, limit }
}

/// The same numbers as in docs/PERFORMANCE.md. Ratios hold against either tuning of the peer.
static AIMS: [Aim; 19] = {
    use Limit::{AtLeast, AtMost};
    use Of::{Ours, Ratio};
    [
        aim("chat", "tokens_per_s", Some(1), Ratio, AtLeast(0.98)),
        aim("chat", "tokens_per_s", Some(8), Ratio, AtLeast(1.10)),
        aim("chat", "tokens_per_s", Some(16), Ratio, AtLeast(1.10)),
        aim("stall", "gap_max", None, Ours, AtMost(0.3)),
        aim("stall", "ttft_long", None, Ratio, AtMost(1.10)),
        aim("shared_prefix", "evaluated_per_unique", None, Ours, AtMost(1.05)),
        aim("shared_prefix", "ttft_max", Some(4), Ratio, AtMost(1.0 / 3.0)),
        aim("multi_turn", "ttft_p50", None, Ratio, AtMost(1.0)),
        aim("multi_turn", "evaluated_per_prompt", None, Ours, AtMost(0.05)),
        aim("restart", "evaluated_per_prompt", None, Ours, AtMost(0.05)),
        aim("cancel", "answer_to_free_max", None, Ours, AtMost(0.3)),
        aim("cancel", "prompt_to_free_max", None, Ours, AtMost(0.3)),
        aim("fairness", "ttft_beside_alone", None, Ours, AtMost(3.0)),
        aim("structured", "constrained_per_free", None, Ours, AtLeast(0.97)),
        aim("structured", "valid", None, Ours, AtLeast(1.0)),
        aim("edit", "edit_on_per_off", None, Ours, AtLeast(2.0)),
        aim("edit", "quote_on_per_off", None, Ours, AtLeast(2.0)),
        aim("edit", "chat_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_on_per_off_min", None, Ours, AtLeast(0.97)),
    ]
};

impl Aim {
    fn is_of(&self, row: &Row) -> bool {
        self.scenario == row.scenario && self.metric == row.metric && self.clients.is_none_or(|clients| clients == row.clients)
    }

    /// What is wrong with the row.
    fn missed(&self, row: &Row) -> Option<String> {
        let (what, value) = match self.of {
            Of::Ours => ("ours", row.ours),
            Of::Ratio => ("the ratio", row.ratio),
        };
        // What is not a number reaches no aim.
        let (met, least_or_most, limit) = match self.limit {
            Limit::AtLeast(limit) => (value >= limit, "least", limit),
            Limit::AtMost(limit) => (value <= limit, "most", limit),
        };
        let Row { scenario, against, clients, metric, .. } = row;
        (!met).then(|| {
            format!("{scenario} ({against}), {clients} clients, {metric}: {what} is {value:.3}, should be at {least_or_most} {limit:.3}")
        })
    }
}

/// Prints which aims are missed.
#[expect(clippy::print_stdout, reason = "it is what the program is run for")]
pub fn print(rows: &[Row]) {
    println!("\nAims that are missed:");
    let missed = missed(rows);
    if missed.is_empty() {
        println!("- none of those that were measured");
    }
    for missed in missed {
        println!("- {missed}");
    }
}

fn missed(rows: &[Row]) -> Vec<String> {
    let mut told = Vec::new();
    for row in rows {
        told.extend(AIMS.iter().filter(|aim| aim.is_of(row)).filter_map(|aim| aim.missed(row)));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str, clients: u32, metric: &'static str, ours: f64, peer: f64) -> Row {
        Row::of(scenario, "tuned", clients, metric, &[(ours, peer)], 1.0)
    }

    #[test]
    fn only_what_is_missed_is_told() {
        let rows = [
            row("chat", 1, "tokens_per_s", 99.0, 100.0),
            row("chat", 8, "tokens_per_s", 105.0, 100.0),
            row("chat", 8, "ttft_p50", 105.0, 100.0),
            row("shared_prefix", 16, "ttft_max", 2.0, 3.0),
            row("stall", 2, "gap_max", 0.2, 0.1),
            row("multi_turn", 11, "evaluated_per_prompt", f64::NAN, 0.1),
        ];
        let told = missed(&rows);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], "chat (tuned), 8 clients, tokens_per_s: the ratio is 1.050, should be at least 1.100");
        assert!(told[1].starts_with("multi_turn (tuned), 11 clients, evaluated_per_prompt: ours is NaN"));
    }
}
