//! What a worker is told when it starts.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The GGUF file.
    #[arg(long)]
    pub model: PathBuf,
    /// The model's name in requests.
    #[arg(long)]
    pub model_id: String,
    /// The pool that it belongs to, on another machine: host and port.
    #[arg(long, requires_all = ["name", "cert_file", "key_file", "ca_file"])]
    pub join: Option<String>,
    /// With --join: the name in its certificate.
    #[arg(long)]
    pub name: Option<String>,
    /// With --join: host and port where the pool reaches it; default: where it listens.
    #[arg(long)]
    pub advertise: Option<String>,
    /// With --join: its certificate, as PEM.
    #[arg(long)]
    pub cert_file: Option<PathBuf>,
    /// With --join: the key of that.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// With --join: the authority of pool and workers.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// With --join: how long running answers may take to end after SIGTERM.
    #[arg(long, default_value_t = 600)]
    pub drain_seconds: u64,
    /// A further model, as JSON: id, path and optionally pinned, context_length, slots, state_dir, which are then its own, and
    /// gpu_layers, cells, cache_type, flash_attention, by default as the options of the same names. May be given more than
    /// once.
    #[arg(long = "more", value_name = "JSON")]
    pub more: Vec<String>,
    /// With --more: the model of --model never makes room for another.
    #[arg(long)]
    pub pinned: bool,
    /// With --more: memory that the loaded models may take together, in MiB (of the graphics cards, if a model has layers
    /// there); default: no limit.
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// With --memory-mib: how long a model stays loaded at least before it makes room for another; default: 60.
    #[arg(long, value_name = "SECONDS")]
    pub residence_seconds: Option<u64>,
    /// A folder that is the same for all workers of this machine: one after the other loads a model into the same memory.
    #[arg(long)]
    pub lock_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: std::net::SocketAddr,
    /// Tokens of context for one conversation with the model of --model; default: 8192, or what it was trained for if that is
    /// less.
    #[arg(long, value_name = "TOKENS")]
    pub context_length: Option<u32>,
    /// Conversations with the model of --model at the same time, 1 to 64; default: 4.
    #[arg(long)]
    pub slots: Option<u32>,
    /// Threads that compute; default: what the machine has.
    #[arg(long)]
    pub threads: Option<u32>,
    /// Tokens that a model's context holds: running conversations and the prefix cache; default, and 0: two conversations of
    /// full length, four on a graphics card.
    #[arg(long, value_name = "TOKENS")]
    pub cells: Option<u32>,
    /// How keys and values are stored: f16, q8_0 (half the memory) or q4_0 (a quarter); default: f16.
    #[arg(long)]
    pub cache_type: Option<worker::CacheType>,
    /// Compute attention without writing its matrix down: auto, on or off; default: auto, as is best where the model runs.
    #[arg(long)]
    pub flash_attention: Option<worker::FlashAttention>,
    /// Most tokens in one step, at least slots + 16; default: 256.
    #[arg(long, value_name = "TOKENS")]
    pub batch: Option<u32>,
    /// Layers on the graphics cards, the rest on the processor; 99 puts all of a usual model there; default: 0.
    #[arg(long, value_name = "LAYERS")]
    pub gpu_layers: Option<u32>,
    /// Graphics cards to use, by number, e.g. 0,1; default: all.
    #[arg(long, value_delimiter = ',')]
    pub cards: Vec<usize>,
    /// Requests to a model that may wait for a slot, 1 to 4096; default: 64. Beyond that, whoever has fewest waiting takes the
    /// place of the latest one of whoever has most.
    #[arg(long, value_name = "REQUESTS")]
    pub queue_limit: Option<u32>,
    /// Folder where the prefix cache of the model of --model is kept over a restart; default: nowhere.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// With --state-dir: most that is kept there of a model, in MiB; default: 256.
    #[arg(long, value_name = "MIB")]
    pub cache_mib: Option<u64>,
    /// Do not guess tokens ahead where an answer repeats what was said before.
    #[arg(long)]
    pub no_speculation: bool,
    /// Where spans go, as OTLP over HTTP: the whole address; default: what OTEL_EXPORTER_OTLP_ENDPOINT says.
    #[arg(long, value_name = "URL")]
    pub traces: Option<String>,
    /// What to log, as in `log.level`.
    #[arg(long, default_value = "info")]
    pub log: String,
}
