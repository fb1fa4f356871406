//! From figures of rounds to ratios: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::kernels::Kernels;
use crate::quiet::{self, Disturbed};
use crate::{Result, aims};

/// One figure of one run.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub clients: u32,
    pub metric: &'static str,
    pub value: f64,
}

impl Figure {
    pub fn new(clients: u32, metric: &'static str, value: f64) -> Self {
        Self { clients, metric, value }
    }
}

/// What identifies a row.
type Key = (String, String, u32, &'static str);

/// See the module.
pub struct Report {
    kernels: Kernels,
    /// Ours and the peer's of each round.
    rounds: BTreeMap<Key, Vec<(f64, f64)>>,
    disturbed: Vec<Disturbed>,
}

/// A figure of ours beside a peer's.
#[derive(Debug, Serialize)]
pub struct Row {
    pub scenario: String,
    /// The peer, or its tuning.
    pub against: String,
    pub clients: u32,
    pub metric: &'static str,
    /// Medians over the rounds.
    pub ours: f64,
    pub peer: f64,
    /// Median of the rounds' ratios ours ÷ peer, and the smallest and largest.
    pub ratio: f64,
    pub ratio_min: f64,
    pub ratio_max: f64,
    pub rounds: usize,
}

impl Row {
    /// Ours and the peer's of each round; the ratios are multiplied by `factor`.
    pub fn of(scenario: &str, against: &str, clients: u32, metric: &'static str, rounds: &[(f64, f64)], factor: f64) -> Self {
        let ratios: Vec<f64> = rounds.iter().map(|(ours, peer)| ours / peer * factor).collect();
        Self {
            scenario: scenario.to_owned(),
            against: against.to_owned(),
            clients,
            metric,
            ours: median(rounds.iter().map(|(ours, _)| *ours)),
            peer: median(rounds.iter().map(|(_, peer)| *peer)),
            ratio: median(ratios.iter().copied()),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: rounds.len(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    /// How many times faster the peer's llama.cpp is in answers, and in prompts.
    kernel_ratio: f64,
    kernel_ratio_prompt: f64,
    disturbed: &'a [Disturbed],
    rows: Vec<Row>,
}

impl Report {
    pub fn new(kernels: Kernels) -> Self {
        Self { kernels, rounds: BTreeMap::new(), disturbed: Vec::new() }
    }

    /// Takes in one round.
    ///
    /// # Errors
    /// The two did not measure the same.
    pub fn add(&mut self, scenario: &str, against: &str, ours: &[Figure], peer: &[Figure]) -> Result<()> {
        if ours.len() != peer.len() {
            return Err(format!("{scenario}: {} figures of ours, {} of the peer's", ours.len(), peer.len()).into());
        }
        for (ours, peer) in ours.iter().zip(peer) {
            let key = (scenario.to_owned(), against.to_owned(), ours.clients, ours.metric);
            self.rounds.entry(key).or_default().push((ours.value, peer.value));
        }
        Ok(())
    }

    /// Notes what others did beside a measurement, if it was too much.
    pub fn note(&mut self, disturbed: Option<Disturbed>) {
        self.disturbed.extend(disturbed);
    }

    fn rows(&self) -> Vec<Row> {
        let row = |((scenario, against, clients, metric), rounds): (&Key, &Vec<(f64, f64)>)| {
            Row::of(scenario, against, *clients, metric, rounds, self.kernels.factor(scenario, against, *clients, metric))
        };
        self.rounds.iter().map(row).collect()
    }

    /// Writes the JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Kernels { answer, prompt } = self.kernels;
        write(path, &Document { kernel_ratio: answer, kernel_ratio_prompt: prompt, disturbed: &self.disturbed, rows: self.rows() })
    }

    /// Prints the table, which measurements were disturbed, and which aims are missed and met.
    #[expect(clippy::print_stdout, reason = "it is what the program is run for")]
    pub fn print(&self) {
        let Kernels { answer, prompt } = self.kernels;
        println!("Freed of the kernels: the peer's llama.cpp is {answer:.3} times as fast in answers, {prompt:.3} times in prompts.\n");
        let rows = self.rows();
        print(&rows);
        quiet::print(&self.disturbed);
        aims::print(&aims::ENGINE, &rows);
    }
}

/// Writes a document as JSON, with the folders that it needs.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, document: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, serde_json::to_vec_pretty(document)?)?)
}

/// Prints rows as a table.
#[expect(clippy::print_stdout, reason = "it is what the program is run for")]
pub fn print(rows: &[Row]) {
    println!("| Scenario | Peer | Clients | Metric | Ours | Peer | Ratio (spread) |");
    println!("|---|---|---:|---|---:|---:|---:|");
    for row in rows {
        let [ours, peer, ratio, least, most] = [row.ours, row.peer, row.ratio, row.ratio_min, row.ratio_max].map(cell);
        let Row { scenario, against, clients, metric, .. } = row;
        println!("| {scenario} | {against} | {clients} | {metric} | {ours} | {peer} | {ratio} ({least}–{most}) |");
    }
}

/// A number for people; none where there is none.
fn cell(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "–".to_owned() }
}

/// The middle one; the mean of the middle two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let mut report = Report::new(Kernels::EQUAL);
        for (ours, peer) in [(2.0, 1.0), (9.0, 3.0), (8.0, 8.0)] {
            report.add("chat", "default", &[Figure::new(1, "tokens_per_s", ours)], &[Figure::new(1, "tokens_per_s", peer)]).unwrap();
        }
        let rows = report.rows();
        assert_eq!((rows[0].ratio, rows[0].ratio_min, rows[0].ratio_max, rows[0].ours), (2.0, 1.0, 3.0, 8.0));
    }

    #[test]
    fn figures_that_do_not_match_are_refused() {
        assert!(Report::new(Kernels::EQUAL).add("chat", "default", &[], &[Figure::new(1, "x", 1.0)]).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
