//! Loading a GGUF file, and what the rest of the worker needs to know of it.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::{LlamaVocab, VocabType};
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use worker_protocol::LoadedModel;

use crate::constraint::Grammars;
use crate::error::Error;
use crate::options::Options;
use crate::sampling::Defaults;
use crate::template::{Piece, Template};

/// Tokens for one sequence where neither the options nor the model ask for less.
const DEFAULT_CONTEXT: u32 = 8192;

/// llama.cpp's global state may be initialised only once per process.
static BACKEND: LazyLock<Result<LlamaBackend, String>> = LazyLock::new(|| {
    send_logs_to_tracing(LogOptions::default());
    LlamaBackend::init().map_err(|error| error.to_string())
});

/// The initialised llama.cpp.
pub fn backend() -> Result<&'static LlamaBackend, Error> {
    BACKEND.as_ref().map_err(|error| Error::Engine(format!("llama.cpp did not start: {error}")))
}

/// A loaded model: weights, vocabulary, template. Immutable, shared between threads.
pub struct Model {
    pub weights: Arc<LlamaModel>,
    pub info: LoadedModel,
    pub defaults: Defaults,
    /// `Err`: why completions of this model cannot be made to match anything.
    pub grammars: Result<Grammars, String>,
    template: Template,
}

impl Model {
    /// Reads the file. Seconds for a large one.
    pub fn load(options: &Options) -> Result<Self, Error> {
        let fail = |problem: String| Error::Model { path: options.model_path.clone(), problem };
        check_file(&options.model_path).map_err(fail)?;
        let params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
        let weights = LlamaModel::load_from_file(backend()?, &options.model_path, &params).map_err(|error| {
            fail(format!("llama.cpp refuses the file ({error}): it is incomplete, damaged or of an unknown architecture; its own message is in the log"))
        })?;
        let template = Template::new(
            chat_template(&weights),
            token_text(&weights.vocab(), weights.vocab().bos()),
            token_text(&weights.vocab(), weights.vocab().eos()),
        )
        .map_err(|error| fail(format!("its chat template is broken: {error}")))?;
        let info = LoadedModel {
            id: options.model_id.clone(),
            context_length: context_length(options, weights.n_ctx_train()),
            slots: options.slots,
        };
        let defaults = Defaults::from_metadata(|key| weights.meta_val_str(key).ok());
        let grammars = Grammars::new(&weights.vocab());
        if let Err(error) = &grammars {
            tracing::warn!(error, "llguidance does not accept the vocabulary; schemas and grammars will be refused");
        }
        Ok(Self { weights: Arc::new(weights), info, defaults, grammars, template })
    }

    /// The tokens of a conversation.
    ///
    /// # Errors
    /// A sentence for the caller: the template refuses these messages.
    pub fn prompt(&self, messages: &[worker_protocol::ChatMessage], continue_last: bool) -> Result<Vec<LlamaToken>, String> {
        let pieces = self.template.render(messages, continue_last)?;
        Ok(tokenise(&self.weights.vocab(), &pieces))
    }

    /// How many tokens at the beginning of `prompt` the first `messages` make, whatever follows them.
    pub fn beginning(&self, prompt: &[LlamaToken], messages: &[worker_protocol::ChatMessage]) -> usize {
        // A template may refuse so few; then there is nothing that could be told apart.
        let alone = self.prompt(messages, false).unwrap_or_default();
        prompt.iter().zip(&alone).take_while(|(a, b)| a == b).count()
    }
}

fn context_length(options: &Options, trained: u32) -> u32 {
    match options.context_length {
        Some(asked) => {
            if asked > trained {
                tracing::warn!(asked, trained, "the context is longer than the model was trained for; answers may degrade");
            }
            asked
        }
        None => DEFAULT_CONTEXT.min(trained),
    }
}

/// Catches the usual mistakes with a message that says more than llama.cpp's null pointer.
fn check_file(path: &Path) -> Result<(), String> {
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(|error| format!("its first bytes cannot be read: {error}"))?;
    if &magic == b"GGUF" { Ok(()) } else { Err("it is not a GGUF file".into()) }
}

fn chat_template(weights: &LlamaModel) -> Option<String> {
    let template = weights.chat_template(None).ok().and_then(|template| template.to_string().ok());
    if template.is_none() {
        tracing::warn!("the model file has no chat template; ChatML is used");
    }
    template
}

/// A token's own text, e.g. `<|im_end|>`; empty if the vocabulary has no such token.
fn token_text(vocab: &LlamaVocab<'_>, token: LlamaToken) -> String {
    if token.0 < 0 {
        return String::new();
    }
    vocab.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Control tokens are recognised only in the template's own text.
fn tokenise(vocab: &LlamaVocab<'_>, pieces: &[Piece]) -> Vec<LlamaToken> {
    let mut tokens = Vec::new();
    let bos = vocab.bos();
    if vocab.should_add_bos() && bos.0 >= 0 {
        let written = matches!(pieces.first(), Some(Piece::Control(text)) if text.starts_with(&token_text(vocab, bos)));
        if !written {
            tokens.push(bos);
        }
    }
    let anchor = anchor(vocab);
    for (at, piece) in pieces.iter().enumerate() {
        let (text, special) = match piece {
            Piece::Control(text) => (text, true),
            Piece::Plain(text) => (text, false),
        };
        match &anchor {
            Some(anchor) if at > 0 => tokens.extend(tokenise_after(vocab, anchor, text, special)),
            _ => vocab.tokenize_into(text.as_bytes(), &mut tokens, false, special),
        }
    }
    tokens
}

/// SentencePiece vocabularies put a space before whatever they tokenise. In the middle of a prompt it does
/// not belong there, so such a piece is tokenised behind a line break whose tokens are dropped again.
fn anchor(vocab: &LlamaVocab<'_>) -> Option<Vec<LlamaToken>> {
    matches!(vocab.vocab_type(), VocabType::SPM).then(|| vocab.tokenize(b"\n", false, false))
}

fn tokenise_after(vocab: &LlamaVocab<'_>, anchor: &[LlamaToken], text: &str, special: bool) -> Vec<LlamaToken> {
    let anchored = vocab.tokenize(format!("\n{text}").as_bytes(), false, special);
    match anchored.strip_prefix(anchor) {
        Some(tokens) => tokens.to_vec(),
        None => vocab.tokenize(text.as_bytes(), false, special),
    }
}
