//! What is measured. Each scenario starts the engine afresh and returns its figures.

mod cancel;
mod chat;
mod edit;
mod fairness;
mod multi_turn;
mod restart;
mod shared_prefix;
mod stall;
mod structured;

use std::time::Instant;

use futures::future::join_all;

use crate::Result;
use crate::engine::{Answer, Ask, Engine, Kind, Launcher, Tuning};
use crate::report::Figure;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Chat,
    SharedPrefix,
    Stall,
    MultiTurn,
    Fairness,
    Structured,
    Edit,
    Cancel,
    Restart,
}

/// All, in the order in which they run.
pub fn all() -> [Scenario; 9] {
    use Scenario::{Cancel, Chat, Edit, Fairness, MultiTurn, Restart, SharedPrefix, Stall, Structured};
    [Chat, SharedPrefix, Stall, MultiTurn, Fairness, Structured, Edit, Cancel, Restart]
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::SharedPrefix => "shared_prefix",
            Self::Stall => "stall",
            Self::MultiTurn => "multi_turn",
            Self::Fairness => "fairness",
            Self::Structured => "structured",
            Self::Edit => "edit",
            Self::Cancel => "cancel",
            Self::Restart => "restart",
        }
    }

    /// It makes a difference how the peer is tuned. After a restart it does not: the peer has nothing left either way.
    pub fn suits(self, tuning: Tuning) -> bool {
        tuning == Tuning::Default || self != Self::Restart
    }

    pub async fn run(self, launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
        match self {
            Self::Chat => chat::run(launcher, kind).await,
            Self::SharedPrefix => shared_prefix::run(launcher, kind).await,
            Self::Stall => stall::run(launcher, kind).await,
            Self::MultiTurn => multi_turn::run(launcher, kind).await,
            Self::Fairness => fairness::run(launcher, kind).await,
            Self::Structured => structured::run(launcher, kind).await,
            Self::Edit => edit::run(launcher, kind).await,
            Self::Cancel => cancel::run(launcher, kind).await,
            Self::Restart => restart::run(launcher, kind).await,
        }
    }
}

/// Asks all at the same time; fails with the first failure.
async fn together(engine: &Engine, asks: Vec<Ask>) -> Result<(Vec<Answer>, f64)> {
    let begin = Instant::now();
    let answers = join_all(asks.into_iter().map(|ask| engine.ask(ask))).await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok((answers, begin.elapsed().as_secs_f64()))
}

/// One answer before anything is measured: pages the weights in. Its instructions are its own: with the template's the
/// peer, which knows no tenants, would have computed the beginning of every prompt that is measured.
async fn warm_up(engine: &Engine) -> Result<()> {
    let system = Some("Greet whoever writes to you.".into());
    engine.ask(Ask { tenant: "warm-up".into(), system, ..Ask::question("Say hello.", 8) }).await.map(drop)
}

#[expect(clippy::cast_precision_loss, reason = "token counts are small")]
fn number(count: u64) -> f64 {
    count as f64
}
