//! Measures the engine beside llama.cpp's own server: same file, same prompts, same threads, in turns. And, as
//! `kontor-bench gateway`, the gateway beside other gateways.
//!
//! ```text
//! engine/     starting, asking and stopping the two         scenarios/  what is measured
//! kernels.rs  what lies in the two versions of llama.cpp     identity.rs  are the answers the same?
//! quiet.rs    is the machine quiet, and did it stay so?      report.rs   ratios, table, JSON
//! aims.rs     what figures should be, and are not            gateway/    all about the gateway
//! ```
//!
//! Every figure is the median of the rounds' ratios; each round measures both, each in a fresh process, so that
//! neither profits from what the other's round left behind. Ours is first in odd rounds, the peer in even ones: what a
//! machine does later in a round, warmer or slower, falls on both.

mod aims;
mod engine;
mod gateway;
mod identity;
mod kernels;
mod quiet;
mod report;
mod scenarios;
mod texts;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use engine::{Launcher, Tuning};
use kernels::Kernels;
use report::{Figure, Report};
use scenarios::Scenario;

/// Any error ends the measurement.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(
    name = "kontor-bench",
    about = "Measures Kontor's engine beside llama-server",
    after_help = "`kontor-bench gateway --help` tells how the gateway is measured."
)]
struct Args {
    /// The GGUF file that both run.
    #[arg(long)]
    model: PathBuf,
    /// The GGUF file of the scenario `edit`, whose model must be able to repeat code; the same one if left out.
    #[arg(long)]
    edit_model: Option<PathBuf>,
    /// The built `kontor`.
    #[arg(long)]
    kontor: PathBuf,
    /// The built `llama-server`.
    #[arg(long)]
    llama_server: PathBuf,
    /// Threads that each engine computes with.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Prompts that both answer to tell whether they say the same.
    #[arg(long, default_value_t = 100)]
    identity_prompts: usize,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The peer as it comes, at its best tuning, or both.
    #[arg(long, value_delimiter = ',', default_value = "default,tuned")]
    peer: Vec<String>,
    /// `llama-bench` of the llama.cpp that the worker uses, and the peer's: how much faster the latter is in itself is
    /// divided out of speeds, and of times that are spent on prompts.
    #[arg(long, requires = "bench_peer")]
    bench_ours: Option<PathBuf>,
    #[arg(long, requires = "bench_ours")]
    bench_peer: Option<PathBuf>,
    #[arg(long, default_value = "target/bench/inference.json")]
    out: PathBuf,
    /// Measure although the machine is busy.
    #[arg(long)]
    busy: bool,
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let outcome = if arguments.get(1).is_some_and(|first| first == "gateway") {
        arguments.remove(1);
        gateway::run(gateway::Args::parse_from(arguments))
    } else {
        measure_engine(Args::parse_from(arguments))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kontor-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_engine(args: Args) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let launcher = Launcher {
        model: args.model.clone(),
        edit_model: args.edit_model.as_ref().unwrap_or(&args.model).clone(),
        kontor: args.kontor.clone(),
        llama_server: args.llama_server.clone(),
        threads: args.threads,
    };
    let kernels = match args.bench_ours.as_deref().zip(args.bench_peer.as_deref()) {
        Some((ours, peer)) => kernels::read(ours, peer, &args.model, args.threads).await?,
        None => Kernels::EQUAL,
    };
    let mut report = Report::new(kernels);
    let mut failures = Vec::new();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    for peer in &args.peer {
        let tuning: Tuning = peer.parse()?;
        for scenario in scenarios::all().into_iter().filter(|scenario| wanted(scenario.name()) && scenario.suits(tuning)) {
            if let Err(error) = rounds(&args, &launcher, scenario, tuning, peer, &mut report).await {
                eprintln!("{} ({peer}) ends: {error}", scenario.name());
                failures.push(format!("{} ({peer}): {error}", scenario.name()));
            }
            report.write(&args.out)?;
        }
    }
    if wanted("identity") {
        eprintln!("identity");
        match identity::run(&launcher, args.identity_prompts).await {
            Ok((ours, peer)) => report.add("identity", "default", &ours, &peer)?,
            Err(error) => failures.push(format!("identity: {error}")),
        }
    }
    report.print();
    report.write(&args.out)?;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

/// All rounds of a scenario. What fails in it ends it, but not the others; then it has no figures, as those of fewer rounds
/// would be taken for those of all.
async fn rounds(args: &Args, launcher: &Launcher, scenario: Scenario, tuning: Tuning, against: &str, report: &mut Report) -> Result<()> {
    let mut measured = Vec::with_capacity(args.rounds);
    for round in 1..=args.rounds {
        eprintln!("{} ({against}), round {round} of {}", scenario.name(), args.rounds);
        let half = Half { scenario, launcher, busy: args.busy, what: format!("{} ({against}), round {round}", scenario.name()) };
        measured.push(both(&half, tuning, round, report).await?);
    }
    measured.iter().try_for_each(|(ours, theirs)| report.add(scenario.name(), against, ours, theirs))
}

/// What both halves of a round have in common.
struct Half<'a> {
    scenario: Scenario,
    launcher: &'a Launcher,
    /// Measure whatever others do.
    busy: bool,
    /// Which scenario and round, for people.
    what: String,
}

/// One round: the figures of ours and of the peer.
async fn both(half: &Half<'_>, tuning: Tuning, round: usize, report: &mut Report) -> Result<(Vec<Figure>, Vec<Figure>)> {
    let (ours, peer) = (engine::Kind::Ours, engine::Kind::Peer(tuning));
    if round % 2 == 1 {
        let ours = measure(half, ours, report).await?;
        Ok((ours, measure(half, peer, report).await?))
    } else {
        let peer = measure(half, peer, report).await?;
        Ok((measure(half, ours, report).await?, peer))
    }
}

async fn measure(half: &Half<'_>, kind: engine::Kind, report: &mut Report) -> Result<Vec<Figure>> {
    let whose = if kind == engine::Kind::Ours { "ours" } else { "the peer" };
    let attempt = async || -> Result<(Vec<Figure>, f64)> {
        if !half.busy {
            quiet::wait().await?;
        }
        let watch = quiet::Watch::begin(None)?;
        let figures = half.scenario.run(half.launcher, kind).await?;
        Ok((figures, watch.others()?))
    };
    let measured = quiet::undisturbed(format!("{}, {whose}", half.what), half.busy, attempt).await;
    let (figures, disturbed) = measured.map_err(|error| format!("{whose}: {error}"))?;
    report.note(disturbed);
    Ok(figures)
}
