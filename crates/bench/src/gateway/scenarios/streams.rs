//! Streams of 64 pieces of text, one every 20 ms, many at the same time: how late is the first piece, how even are the
//! others, are any lost, and how many streams are sustained?

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::client::{Caller, Route};
use crate::gateway::sample::{P50, P99, Sample, number};
use crate::gateway::streamed::{self, Streamed};
use crate::gateway::upstream::Script;
use crate::report::Figure;

/// Streams at the same time.
const LEVELS: [u32; 3] = [100, 1_000, 3_000];
const PIECES: u32 = 64;
const GAP: Duration = Duration::from_millis(20);
/// Streams of each client, one after the other.
const EACH: usize = 2;
/// A stream may end so much later than it should and still count as sustained.
const LATE: Duration = Duration::from_millis(300);
/// A stream that takes longer than this is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a level's streams, those that must be sustained for the level to be.
const SUSTAINED: f64 = 0.99;

/// What came of a level.
struct Level {
    first: Sample,
    gaps: Sample,
    lost: u64,
    /// The part of the streams that were whole and in time.
    sustained: f64,
}

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    turn.upstreams.usual.play(Script::Paced { pieces: PIECES, gap: GAP });
    let (mut figures, mut most) = (Vec::new(), 0);
    for streams in LEVELS {
        let through = measure(&turn.gateway.route, streams).await;
        figures.extend(through.figures(streams));
        if !turn.is_direct() {
            let direct = measure(turn.direct, streams).await;
            figures.extend([
                Figure::new(streams, "added_first_text_p50_ms", through.first.ms(P50) - direct.first.ms(P50)),
                Figure::new(streams, "added_gap_p99_ms", through.gaps.ms(P99) - direct.gaps.ms(P99)),
                // Below one, it is this program that is measured.
                Figure::new(streams, "direct_sustained_part", direct.sustained),
            ]);
        }
        if through.sustained >= SUSTAINED {
            most = streams;
        }
    }
    figures.push(Figure::new(LEVELS[LEVELS.len() - 1], "streams_sustained", f64::from(most)));
    Ok(figures)
}

impl Level {
    fn figures(&self, streams: u32) -> Vec<Figure> {
        vec![
            Figure::new(streams, "first_text_p50_ms", self.first.ms(P50)),
            Figure::new(streams, "first_text_p99_ms", self.first.ms(P99)),
            Figure::new(streams, "gap_p99_ms", self.gaps.ms(P99)),
            Figure::new(streams, "pieces_lost", number(self.lost)),
            Figure::new(streams, "sustained_part", self.sustained),
        ]
    }

    fn of(streams: Vec<Streamed>) -> Self {
        let (count, length) = (streams.len(), GAP * PIECES + LATE);
        let whole = |stream: &&Streamed| stream.done && stream.pieces == PIECES && stream.took <= length;
        let sustained = streams.iter().filter(whole).count();
        let lost = streams.iter().map(|stream| u64::from(PIECES.saturating_sub(stream.pieces))).sum();
        let first = streams.iter().filter_map(|stream| stream.first).collect();
        let gaps = streams.into_iter().flat_map(|stream| stream.gaps).collect();
        let part = |count: usize| u64::try_from(count).map_or(f64::NAN, number);
        Self { first: Sample::new(first), gaps: Sample::new(gaps), lost, sustained: part(sustained) / part(count) }
    }
}

/// So many clients, whose streams begin evenly spread over the length of one.
async fn measure(route: &Route, streams: u32) -> Level {
    let clients = (0..streams).map(|client| listen(route, GAP * PIECES * client / streams));
    Level::of(join_all(clients).await.into_iter().flatten().collect())
}

async fn listen(route: &Route, later: Duration) -> Vec<Streamed> {
    sleep(later).await;
    let (body, mut caller) = (route.body(PROMPT, true), Caller::new(route.addr()));
    let mut streams = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        let make = || route.request(&body);
        let streamed = timeout(PATIENCE, streamed::read(&mut caller, &make)).await;
        // One that fails has lost everything.
        streams.push(streamed.ok().and_then(Result::ok).unwrap_or_default());
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::{GAP, LATE, Level, PIECES};
    use crate::gateway::sample::P99;
    use crate::gateway::streamed::Streamed;
    use std::time::Duration;

    #[test]
    fn a_level_counts_what_was_lost_and_what_was_late() {
        let good = Streamed { first: Some(GAP), gaps: vec![GAP; 63], pieces: PIECES, done: true, took: GAP * PIECES };
        let late = Streamed { took: GAP * PIECES + LATE + Duration::from_millis(1), ..good.clone() };
        let cut = Streamed { pieces: 60, done: false, ..good.clone() };
        let level = Level::of(vec![good, late, cut, Streamed::default()]);
        assert_eq!(level.lost, 4 + 64);
        assert!((level.sustained - 0.25).abs() < 1e-9);
        assert_eq!(level.gaps.at(P99), Some(GAP));
    }
}
