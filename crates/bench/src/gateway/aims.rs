//! What the gateway's figures should be.

use crate::aims::Limit::{AtLeast, AtMost};
use crate::aims::{Aim, absolute, beside};

/// 60 MB.
const STEADY_MIB: f64 = 60e6 / 1024.0 / 1024.0;

/// The same numbers as in docs/PERFORMANCE.md.
pub static AIMS: [Aim; 11] = [
    beside("added_latency", "added_p50_us", "tensorzero", AtMost(0.5)),
    beside("added_latency", "added_p50_us", "envoy", AtMost(1.0)),
    beside("throughput", "requests_per_s", "tensorzero", AtLeast(2.0)),
    beside("throughput", "requests_per_s", "litellm", AtLeast(30.0)),
    absolute("half_load", "added_p99_us", None, AtMost(2_000.0)),
    absolute("streams", "pieces_lost", Some(3_000), AtMost(0.0)),
    absolute("streams", "streams_sustained", None, AtLeast(3_000.0)),
    absolute("idle_streams", "streams_opened", None, AtLeast(9_000.0)),
    absolute("idle_streams", "kib_per_stream", None, AtMost(12.0)),
    absolute("memory", "rested_mib", None, AtMost(STEADY_MIB)),
    absolute("key_flood", "cpu_us_per_refusal", None, AtMost(20.0)),
];

#[cfg(test)]
mod tests {
    use super::AIMS;
    use crate::aims::judged;
    use crate::report::Row;

    fn row(scenario: &str, against: &str, clients: u32, metric: &'static str, ours: f64, peer: f64) -> Row {
        Row::of(scenario, against, clients, metric, &[(ours, peer)], 1.0)
    }

    #[test]
    fn each_peer_has_an_aim_of_its_own() {
        let rows = [
            row("added_latency", "tensorzero", 1, "added_p50_us", 300.0, 436.0),
            row("added_latency", "envoy", 1, "added_p50_us", 200.0, 250.0),
            row("added_latency", "portkey", 1, "added_p50_us", 300.0, 100.0),
            row("throughput", "litellm", 32, "requests_per_s", 4_700.0, 160.0),
            row("throughput", "litellm", 256, "requests_per_s", 4_400.0, 130.0),
        ];
        let judged = judged(&AIMS, &rows);
        assert_eq!(judged.missed.len(), 2, "{judged:?}");
        assert_eq!(judged.missed[0], "added_latency (tensorzero), 1 clients, added_p50_us: the ratio is 0.688, should be at most 0.500");
        assert!(judged.missed[1].starts_with("throughput (litellm), 32 clients"), "{judged:?}");
        assert_eq!(judged.met.len(), 2, "{judged:?}");
    }

    /// If you are here because this failed: what Kontor takes alone would be told once for each peer.
    #[test]
    fn what_has_no_peer_is_told_once() {
        let rows = [
            row("half_load", "envoy", 64, "added_p99_us", 2_500.0, 900.0),
            row("half_load", "tensorzero", 64, "added_p99_us", 2_500.0, 5_400.0),
            row("streams", "direct", 1_000, "pieces_lost", 4.0, 0.0),
            row("streams", "direct", 3_000, "pieces_lost", 0.0, 0.0),
        ];
        let judged = judged(&AIMS, &rows);
        assert_eq!(judged.missed, ["half_load, 64 clients, added_p99_us: ours is 2500.000, should be at most 2000.000"]);
        assert_eq!(judged.met.len(), 1, "{judged:?}");
        assert_eq!(judged.not_measured.len(), AIMS.len() - 2, "{judged:?}");
    }
}
