//! What figures should be, and which of them are not. The engine's aims are here, the gateway's beside its scenarios.

use crate::report::Row;

/// Of a row, what has an aim.
#[derive(Clone, Copy, Debug)]
enum Of {
    Ours,
    Ratio,
}

/// Which of the rows of a figure have an aim.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// Each of them.
    Each,
    Peer(&'static str),
    /// Any: the peer does not matter, and ours is the same in all.
    Nobody,
}

/// What a figure may be.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    scenario: &'static str,
    metric: &'static str,
    against: Against,
    /// Whatever number of clients if none is given.
    clients: Option<u32>,
    of: Of,
    limit: Limit,
}

const fn aim(scenario: &'static str, metric: &'static str, clients: Option<u32>, of: Of, limit: Limit) -> Aim {
    Aim { scenario, metric, against: Against::Each, clients, of, limit }
}

/// For the ratio to one of several peers.
pub const fn beside(scenario: &'static str, metric: &'static str, peer: &'static str, limit: Limit) -> Aim {
    Aim { scenario, metric, against: Against::Peer(peer), clients: None, of: Of::Ratio, limit }
}

/// For ours, whatever peers there are.
pub const fn absolute(scenario: &'static str, metric: &'static str, clients: Option<u32>, limit: Limit) -> Aim {
    Aim { scenario, metric, against: Against::Nobody, clients, of: Of::Ours, limit }
}

/// The same numbers as in docs/PERFORMANCE.md. Ratios hold against either tuning of the peer.
pub static ENGINE: [Aim; 26] = {
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
        aim("edit", "chat_leaves_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_canal_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_meeting_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_bicycle_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_soup_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_train_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_library_on_per_off", None, Ours, AtLeast(0.97)),
        aim("edit", "chat_harbour_on_per_off", None, Ours, AtLeast(0.97)),
    ]
};

impl Aim {
    /// The rows that it is of.
    fn rows<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let mut found: Vec<&Row> = rows.iter().filter(|row| self.is_of(row)).collect();
        if matches!(self.against, Against::Nobody) {
            // Of those that differ in their peer alone, the one that most rounds count in.
            found.sort_by_key(|row| (row.clients, usize::MAX - row.rounds));
            found.dedup_by_key(|row| row.clients);
        }
        found
    }

    fn is_of(&self, row: &Row) -> bool {
        let peer = match self.against {
            Against::Each | Against::Nobody => true,
            Against::Peer(peer) => peer == row.against,
        };
        peer && self.scenario == row.scenario && self.metric == row.metric && self.clients.is_none_or(|clients| clients == row.clients)
    }

    /// Whether the row reaches it, and how that is told.
    fn judge(&self, row: &Row) -> (bool, String) {
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
        let against = if matches!(self.against, Against::Nobody) { String::new() } else { format!(" ({against})") };
        (met, format!("{scenario}{against}, {clients} clients, {metric}: {what} is {value:.3}, should be at {least_or_most} {limit:.3}"))
    }

    /// For people, without a figure.
    fn name(&self) -> String {
        let against = if let Against::Peer(peer) = self.against { format!(" ({peer})") } else { String::new() };
        let clients = self.clients.map(|clients| format!(", {clients} clients")).unwrap_or_default();
        format!("{}{against}{clients}, {}", self.scenario, self.metric)
    }
}

/// What became of aims, for people.
#[derive(Debug, Default)]
pub struct Judged {
    pub missed: Vec<String>,
    pub met: Vec<String>,
    pub not_measured: Vec<String>,
}

/// Judges the rows by these aims.
pub fn judged(aims: &[Aim], rows: &[Row]) -> Judged {
    let mut judged = Judged::default();
    for aim in aims {
        let rows = aim.rows(rows);
        if rows.is_empty() {
            judged.not_measured.push(aim.name());
        }
        for row in rows {
            let (met, told) = aim.judge(row);
            let group = if met { &mut judged.met } else { &mut judged.missed };
            group.push(told);
        }
    }
    judged
}

/// Prints which of these aims are missed, which are met, and which were not measured.
#[expect(clippy::print_stdout, reason = "it is what the program is run for")]
pub fn print(aims: &[Aim], rows: &[Row]) {
    let Judged { missed, met, not_measured } = judged(aims, rows);
    for (what, told) in [("missed", missed), ("met", met), ("not measured", not_measured)] {
        println!("\nAims that are {what}:");
        if told.is_empty() {
            println!("- none");
        }
        for told in told {
            println!("- {told}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str, clients: u32, metric: &'static str, ours: f64, peer: f64) -> Row {
        Row::of(scenario, "tuned", clients, metric, &[(ours, peer)], 1.0)
    }

    #[test]
    fn guessing_must_not_hurt_any_question() {
        for (metric, _) in crate::texts::QUESTIONS {
            assert!(ENGINE.iter().any(|aim| aim.metric == metric), "{metric}");
        }
    }

    #[test]
    fn what_is_missed_is_told_apart_from_what_is_met_and_what_has_no_figure() {
        let rows = [
            row("chat", 1, "tokens_per_s", 99.0, 100.0),
            row("chat", 8, "tokens_per_s", 105.0, 100.0),
            row("chat", 8, "ttft_p50", 105.0, 100.0),
            row("shared_prefix", 16, "ttft_max", 2.0, 3.0),
            row("stall", 2, "gap_max", 0.2, 0.1),
            row("multi_turn", 11, "evaluated_per_prompt", f64::NAN, 0.1),
        ];
        let Judged { missed, met, not_measured } = judged(&ENGINE, &rows);
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert_eq!(missed[0], "chat (tuned), 8 clients, tokens_per_s: the ratio is 1.050, should be at least 1.100");
        assert!(missed[1].starts_with("multi_turn (tuned), 11 clients, evaluated_per_prompt: ours is NaN"));
        assert_eq!(met.len(), 2, "{met:?}");
        assert_eq!(not_measured.len(), ENGINE.len() - 4, "{not_measured:?}");
        assert_eq!(not_measured[0], "chat, 16 clients, tokens_per_s");
    }
}
