//! From the figures of rounds to rows: Kontor beside each of the others.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::aims::AIMS;
use super::peers::Kind;
use super::scenarios::Scenario;
use crate::Result;
use crate::aims;
use crate::quiet::{self, Disturbed};
use crate::report::{self, Figure, Row};

/// What identifies a figure.
type Key = (&'static str, u32, &'static str);

/// See the module.
#[derive(Debug, Default)]
pub struct Results {
    /// Of each gateway what each round brought.
    figures: BTreeMap<Key, BTreeMap<Kind, BTreeMap<usize, f64>>>,
    problems: Vec<String>,
    disturbed: Vec<Disturbed>,
    about: About,
}

/// Under which circumstances it was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// As the kernel writes them: of the clients and the upstream, and of the gateways.
    pub client_cores: String,
    pub gateway_cores: String,
    /// How long Kontor stayed awake after a request at most; `None`: as it comes.
    pub awake_microseconds: Option<u32>,
    /// Gateways that were not there.
    pub not_installed: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    about: &'a About,
    /// Turns that failed; they have no figures.
    problems: &'a [String],
    disturbed: &'a [Disturbed],
    rows: Vec<Row>,
}

impl Results {
    pub fn new(about: About) -> Self {
        Self { about, ..Self::default() }
    }

    /// Takes in one turn.
    pub fn add(&mut self, scenario: Scenario, kind: Kind, round: usize, figures: &[Figure]) {
        for figure in figures {
            let key = (scenario.name(), figure.clients, figure.metric);
            self.figures.entry(key).or_default().entry(kind).or_default().insert(round, figure.value);
        }
    }

    /// A turn failed.
    pub fn failed(&mut self, scenario: Scenario, kind: Kind, round: usize, error: &str) {
        self.problems.push(format!("{}, {}, round {round}: {error}", scenario.name(), kind.name()));
    }

    /// Notes what others did beside a turn, if it was too much.
    pub fn note(&mut self, disturbed: Option<Disturbed>) {
        self.disturbed.extend(disturbed);
    }

    fn document(&self) -> Document<'_> {
        Document { about: &self.about, problems: &self.problems, disturbed: &self.disturbed, rows: self.rows() }
    }

    /// A row for each figure and each gateway that has it too; one without a peer where nobody has.
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((scenario, clients, metric), gateways) in &self.figures {
            let Some(ours) = gateways.get(&Kind::Kontor) else { continue };
            let row = |against: &str, rounds: &[(f64, f64)]| Row::of(scenario, against, *clients, metric, rounds, 1.0);
            let before = rows.len();
            for (peer, theirs) in gateways.iter().filter(|(kind, _)| **kind != Kind::Kontor) {
                // Rounds in which both were measured.
                let both = ours.iter().filter_map(|(round, value)| Some((*value, *theirs.get(round)?)));
                let both: Vec<(f64, f64)> = both.collect();
                if !both.is_empty() {
                    rows.push(row(peer.name(), &both));
                }
            }
            if rows.len() == before {
                let alone: Vec<(f64, f64)> = ours.values().map(|value| (*value, f64::NAN)).collect();
                rows.push(row("none", &alone));
            }
        }
        rows
    }

    /// Writes the JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        report::write(path, &self.document())
    }

    /// Prints the table, what went wrong, which turns were disturbed, and which aims are missed and met.
    #[expect(clippy::print_stdout, reason = "it is what the program is run for")]
    pub fn print(&self) {
        let rows = self.rows();
        report::print(&rows);
        for absent in &self.about.not_installed {
            println!("\n{absent}: not installed");
        }
        for problem in &self.problems {
            println!("\nfailed: {problem}");
        }
        quiet::print(&self.disturbed);
        aims::print(&AIMS, &rows);
    }

    /// Turns that failed.
    pub fn problems(&self) -> usize {
        self.problems.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{About, Results};
    use crate::gateway::peers::Kind;
    use crate::gateway::scenarios::Scenario;
    use crate::quiet::Disturbed;
    use crate::report::Figure;
    use serde_json::{Value, json};

    fn results() -> Results {
        let mut results = Results::new(About { not_installed: vec!["portkey"], ..About::default() });
        let turns = [(Kind::Kontor, [2.0, 9.0, 8.0]), (Kind::Envoy, [1.0, 3.0, 8.0]), (Kind::LiteLlm, [20.0, f64::NAN, 40.0])];
        for (kind, values) in turns {
            for (round, value) in (1..).zip(values).filter(|(_, value)| !value.is_nan()) {
                results.add(Scenario::AddedLatency, kind, round, &[Figure::new(1, "added_p50_us", value)]);
            }
        }
        results.add(Scenario::KeyFlood, Kind::Kontor, 1, &[Figure::new(8, "refusals_per_s", 50_000.0)]);
        results
    }

    #[test]
    fn ratios_are_of_rounds_in_which_both_were_measured() {
        let rows = results().rows();
        assert_eq!(rows.len(), 3);
        let [envoy, litellm, flood] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((envoy.against.as_str(), envoy.ratio, envoy.ours, envoy.peer, envoy.rounds), ("envoy", 2.0, 8.0, 3.0, 3));
        assert_eq!((litellm.against.as_str(), litellm.rounds, litellm.ratio_min, litellm.ratio_max), ("litellm", 2, 0.1, 0.2));
        assert_eq!((flood.against.as_str(), flood.ours), ("none", 50_000.0));
        assert!(flood.ratio.is_nan());
    }

    #[test]
    fn the_document_has_the_form_that_the_other_benchmark_has() {
        let mut results = results();
        results.note(Some(Disturbed { what: "streams, round 1, envoy".into(), discarded: vec![0.5], counted: 0.0 }));
        let written: Value = serde_json::to_value(results.document()).unwrap();
        assert_eq!(written["disturbed"], json!([{"what": "streams, round 1, envoy", "discarded": [0.5], "counted": 0.0}]));
        assert_eq!(written["not_installed"], json!(["portkey"]));
        let first = &written["rows"][0];
        assert_eq!((&first["scenario"], &first["against"], &first["clients"]), (&json!("added_latency"), &json!("envoy"), &json!(1)));
        assert_eq!((&first["metric"], &first["ours"], &first["ratio"]), (&json!("added_p50_us"), &json!(8.0), &json!(2.0)));
        // Where there is no peer, there is no number.
        assert_eq!(written["rows"][2]["ratio"], Value::Null);
    }
}
