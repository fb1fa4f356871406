//! Measures Kontor as a gateway beside others, all in front of the same scripted upstream.
//!
//! ```text
//! peers/      starting and stopping the gateways           scenarios/   what is measured
//! upstream/   what answers behind them                     client.rs    one connection that asks
//! wire.rs     HTTP/1.1, for both of these
//! load.rs     closed and open loop                         streamed.rs  pieces of a streamed answer
//! baseline.rs through a gateway beside the direct way      sample.rs    percentiles
//! process.rs  programs that are measured                   proc.rs      their memory and processor time
//! results.rs  rounds to rows                               aims.rs      what the figures should be
//! ```
//!
//! For each scenario and round every gateway gets its turn, in a fresh process; clients and upstream share the one
//! thread of this program. With two cores, this program belongs on the one and gateways on the other
//! (`scripts/bench-gateway` sees to it).

mod aims;
mod baseline;
mod client;
mod load;
mod peers;
pub mod proc;
mod process;
mod results;
mod sample;
mod scenarios;
mod streamed;
mod upstream;
mod wire;

use std::path::PathBuf;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Figure;
use crate::{Result, quiet};
use peers::{Kind, Programs, Stage};
use results::{About, Results};
use scenarios::{Scenario, Turn};
use upstream::Script;

/// `kontor-bench gateway …`
#[derive(Debug, Parser)]
#[command(name = "kontor-bench gateway", about = "Measures Kontor as a gateway beside others")]
pub struct Args {
    /// The built `kontor`.
    #[arg(long)]
    kontor: PathBuf,
    /// The program `envoy`.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// A Python that has the package `tensorzero`.
    #[arg(long, value_name = "PYTHON")]
    tensorzero: Option<PathBuf>,
    /// The folder in which npm installed `@portkey-ai/gateway`.
    #[arg(long, value_name = "FOLDER")]
    portkey: Option<PathBuf>,
    /// The program `litellm`.
    #[arg(long)]
    litellm: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these gateways beside Kontor; `direct` is the upstream itself.
    #[arg(long, value_delimiter = ',')]
    against: Vec<String>,
    /// The core that gateways run on; any without it. This program itself is put on another one with `taskset`.
    #[arg(long)]
    gateway_core: Option<u32>,
    /// How long Kontor stays awake after a request at most (`server.awake_microseconds`), which takes `--gateway-core`; without
    /// it as Kontor comes.
    #[arg(long, value_name = "MICROSECONDS")]
    awake: Option<u32>,
    #[arg(long, default_value = "target/bench/gateway.json")]
    out: PathBuf,
    /// Measure although the machine is busy.
    #[arg(long)]
    busy: bool,
}

/// Measures, on this thread alone.
///
/// # Errors
/// Something does not start, or a turn of Kontor failed.
pub fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Whatever is cut off here ends its processes when it is dropped.
        tokio::select! {
            outcome = measure(args) => outcome,
            asked = interrupted() => asked.and(Err("interrupted".into())),
        }
    })
}

/// Somebody wants this program to end.
async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn measure(args: Args) -> Result<()> {
    let (scenarios, kinds) = (args.scenarios()?, args.gateways()?);
    let programs = args.programs();
    let (here, absent): (Vec<Kind>, Vec<Kind>) = kinds.into_iter().partition(|kind| programs.has(*kind));
    let about = About {
        client_cores: proc::processors()?,
        gateway_cores: args.gateway_core.map_or_else(|| "any".to_owned(), |core| core.to_string()),
        awake_microseconds: args.awake,
        not_installed: absent.iter().map(|kind| kind.name()).collect(),
    };
    for kind in &absent {
        eprintln!("{}: not installed", kind.name());
    }
    let mut results = Results::new(about);
    eprintln!("setting Kontor up");
    let stage = Stage::set(programs).await?;
    for scenario in scenarios {
        for round in 1..=args.rounds {
            for kind in in_turn(&here, round).filter(|kind| scenario.suits(*kind)) {
                eprintln!("{}, round {round} of {}: {}", scenario.name(), args.rounds, kind.name());
                let what = format!("{}, round {round}, {}", scenario.name(), kind.name());
                let attempt = async || -> Result<(Vec<Figure>, f64)> { turn(&stage, scenario, kind, args.busy).await };
                match quiet::undisturbed(what, args.busy, attempt).await {
                    Ok((figures, disturbed)) => {
                        results.add(scenario, kind, round, &figures);
                        results.note(disturbed);
                    }
                    Err(error) => {
                        eprintln!("  failed: {error}");
                        results.failed(scenario, kind, round, &error.to_string());
                    }
                }
            }
            results.write(&args.out)?;
        }
    }
    results.print();
    match results.problems() {
        0 => Ok(()),
        problems => Err(format!("{problems} turns failed; see above").into()),
    }
}

/// One gateway's turn in one scenario: the figures, and the part of the processors that others took meanwhile.
async fn turn(stage: &Stage, scenario: Scenario, kind: Kind, busy: bool) -> Result<(Vec<Figure>, f64)> {
    let upstreams = stage.upstreams();
    for upstream in [&upstreams.usual, &upstreams.first, &upstreams.second] {
        upstream.play(Script::AtOnce);
    }
    let direct = stage.start(Kind::Direct).await?;
    let gateway = stage.start(kind).await?;
    let turn = Turn { upstreams, gateway: &gateway, direct: &direct.route };
    if scenario.wants_warmth() {
        turn.warm_up().await;
    }
    if !busy {
        quiet::wait().await?;
    }
    let watch = quiet::Watch::begin(gateway.database())?;
    let figures = scenario.run(&turn).await;
    let others = watch.others();
    gateway.stop().await?;
    Ok((figures?, others?))
}

/// All of them, each round beginning with another one, so that nobody always comes after the same neighbour.
fn in_turn(kinds: &[Kind], round: usize) -> impl Iterator<Item = Kind> {
    kinds.iter().copied().cycle().skip(round % kinds.len().max(1)).take(kinds.len())
}

impl Args {
    fn programs(&self) -> Programs {
        Programs {
            kontor: self.kontor.clone(),
            envoy: self.envoy.clone(),
            tensorzero: self.tensorzero.clone(),
            portkey: self.portkey.clone(),
            litellm: self.litellm.clone(),
            core: self.gateway_core,
            awake: self.awake,
        }
    }

    fn scenarios(&self) -> Result<Vec<Scenario>> {
        chosen(&Scenario::ALL, Scenario::name, &self.only)
    }

    fn gateways(&self) -> Result<Vec<Kind>> {
        let mut names = self.against.clone();
        if !names.is_empty() {
            names.push(Kind::Kontor.name().to_owned());
        }
        chosen(&Kind::ALL, Kind::name, &names)
    }
}

/// Those of these names; all without any.
fn chosen<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, names: &[String]) -> Result<Vec<T>> {
    let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    if let Some(unknown) = names.iter().find(|wanted| !known.contains(&wanted.as_str())) {
        return Err(format!("there is no {unknown}; possible: {}", known.join(", ")).into());
    }
    Ok(all.iter().copied().filter(|one| names.is_empty() || names.iter().any(|wanted| wanted == name(*one))).collect())
}

#[cfg(test)]
mod tests {
    use super::{Args, Kind, Scenario, chosen, in_turn};
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn everybody_gets_a_turn_and_the_first_one_changes() {
        let kinds = [Kind::Kontor, Kind::Direct, Kind::Envoy];
        let rounds: Vec<Vec<Kind>> = (1..=3).map(|round| in_turn(&kinds, round).collect()).collect();
        assert_eq!(rounds.iter().map(|round| round[0]).collect::<Vec<_>>(), [Kind::Direct, Kind::Envoy, Kind::Kontor]);
        assert!(rounds.iter().all(|round| kinds.iter().all(|kind| round.contains(kind))));
        assert_eq!(in_turn(&[], 1).count(), 0);
    }

    #[test]
    fn names_choose_and_unknown_ones_are_refused() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen(&Scenario::ALL, Scenario::name, &[]).unwrap(), Scenario::ALL);
        let two = chosen(&Scenario::ALL, Scenario::name, &names(&["memory", "streams"])).unwrap();
        assert_eq!(two, [Scenario::Streams, Scenario::Memory]);
        let refused = chosen(&Kind::ALL, Kind::name, &names(&["nginx"])).unwrap_err().to_string();
        assert!(refused.contains("nginx") && refused.contains("envoy"), "{refused}");
    }
}
