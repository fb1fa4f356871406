//! The engine: one thread that owns model and context and runs all sequences in common steps.

mod admission;
pub mod batch;
pub mod cells;
pub mod choice;
mod context;
pub mod drafts;
pub mod embed;
mod failures;
mod inbox;
pub mod kept;
mod lanes;
mod link;
pub mod queue;
pub mod sequence;
mod step;
mod thread;

use std::sync::{Arc, mpsc};
use std::time::Instant;

use llama_cpp_2::token::LlamaToken;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::error::Error;
use crate::options::ModelOptions;
use crate::sampling::Params;
use crate::shared::{Admission, Shared};
pub use choice::Choice;
use embed::EmbedJob;
pub use link::Link;
use queue::flows::Flow;

/// A completion to make; its prompt is known to fit.
pub struct Job {
    pub id: Uuid,
    pub partition: String,
    pub flow: Flow,
    pub weight: u16,
    pub prompt: Vec<LlamaToken>,
    /// Tokens at the prompt's beginning that are to be kept computed.
    pub pinned: usize,
    /// Only if they need no computation when it begins: somebody asked with them before.
    pub pin_known_only: bool,
    pub params: Params,
    pub choice: Choice,
    /// Whoever asks gave a seed: the answer must come out the same each time.
    pub exact: bool,
    /// Its number among several completions of one prompt; `None`: it is the only one.
    pub number: Option<u32>,
    pub stop: Vec<String>,
    pub link: Link,
    pub arrived: Instant,
    pub admission: Admission,
}

enum Message {
    Job(Box<Job>),
    Embed(Box<EmbedJob>),
    /// Wake up and look at [`Shared::halted`].
    Wake,
}

/// Where jobs go in. The engine ends when all handles are gone and its work is done.
#[derive(Clone)]
pub struct Engine(mpsc::Sender<Message>);

/// The engine has ended.
pub struct Gone;

/// Resolves when the engine's thread has ended.
pub struct Ended(oneshot::Receiver<Result<(), Error>>);

impl Engine {
    /// Starts the thread, which first loads the model.
    pub fn start(options: ModelOptions, shared: Arc<Shared>) -> Result<(Self, Ended), Error> {
        let (sender, receiver) = mpsc::channel();
        let (report, ended) = oneshot::channel();
        let run = move || {
            let result = lanes::run(&options, &shared, receiver);
            // Whoever hears of the end may count on the memory.
            drop(shared);
            // Nobody listens any more when the worker gives up waiting; the log then still has the error.
            if let Err(Err(error)) = report.send(result) {
                tracing::error!(%error, "the engine ended after its worker");
            }
        };
        std::thread::Builder::new().name("engine".into()).spawn(run).map_err(|error| Error::Engine(error.to_string()))?;
        Ok((Self(sender), Ended(ended)))
    }

    /// Hands a job over.
    ///
    /// # Errors
    /// The engine has ended.
    pub fn submit(&self, job: Job) -> Result<(), Gone> {
        self.0.send(Message::Job(Box::new(job))).map_err(|_| Gone)
    }

    /// [`Engine::submit`] for an embedding model or a reranker.
    ///
    /// # Errors
    /// The engine has ended.
    pub fn submit_embed(&self, job: EmbedJob) -> Result<(), Gone> {
        self.0.send(Message::Embed(Box::new(job))).map_err(|_| Gone)
    }

    /// Makes the engine give up everything before its next step.
    pub fn halt(&self, shared: &Shared) {
        shared.halted.store(true, std::sync::atomic::Ordering::Relaxed);
        // Fails only if it has ended already.
        drop(self.0.send(Message::Wake));
    }
}

impl Ended {
    /// How it ended; a panic is an error, too.
    pub async fn wait(&mut self) -> Result<(), Error> {
        (&mut self.0).await.unwrap_or(Err(Error::EnginePanicked))
    }
}
