//! Loading a GGUF file, and what the rest of the worker needs to know of it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::{LlamaVocab, VocabType};
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use worker_protocol::{ChatMessage, EmbedInput, LoadedModel, ModelKind, ModelState};

use crate::cards;
use crate::constraint::Grammars;
use crate::error::Error;
use crate::options::ModelOptions;
use crate::sampling::Defaults;
use crate::template::{Conversation, Piece, Template};
use crate::tools::{Family, Thoughts};

/// Tokens for one sequence where neither the options nor the model ask for less.
const DEFAULT_CONTEXT: u32 = 8192;

/// Which llama.cpp is built in, by the version of the crate that brings it. What it computes, and how it stores that, may be
/// otherwise in another one.
pub const LLAMA: &str = "0.1.160";

/// llama.cpp's global state may be initialised only once per process.
static BACKEND: LazyLock<Result<LlamaBackend, String>> = LazyLock::new(|| {
    send_logs_to_tracing(LogOptions::default());
    LlamaBackend::init().map_err(|error| error.to_string())
});

/// The initialised llama.cpp.
pub fn backend() -> Result<&'static LlamaBackend, Error> {
    BACKEND.as_ref().map_err(|error| Error::Engine(format!("llama.cpp did not start: {error}")))
}

/// A conversation as the model gets it.
pub struct Prompt {
    pub tokens: Vec<LlamaToken>,
    /// They begin the model's thoughts.
    pub thinks: bool,
    /// What they are made of, each with the number of tokens before it.
    pieces: Vec<(Piece, usize)>,
}

impl Prompt {
    /// How many tokens come before the first message that says just this; 0 if none does.
    pub fn before(&self, text: &str) -> usize {
        let says = |piece: &Piece| matches!(piece, Piece::Plain(said) if said == text);
        self.pieces.iter().find(|(piece, _)| says(piece)).map_or(0, |(_, before)| *before)
    }
}

/// The tokens that a model which fills in the middle was taught: what comes before it begins with the first, what comes behind
/// it with the second, and the third asks for it.
#[derive(Clone, Copy, Debug)]
pub struct FillMarks {
    before: LlamaToken,
    behind: LlamaToken,
    middle: LlamaToken,
}

/// A loaded model: weights, vocabulary, template. Immutable, shared between threads.
pub struct Model {
    pub weights: Arc<LlamaModel>,
    pub info: LoadedModel,
    pub defaults: Defaults,
    /// Guess tokens ahead where a request does not say.
    pub speculate: bool,
    /// `Err`: why completions of this model cannot be made to match anything.
    pub grammars: Result<Grammars, String>,
    template: Template,
}

impl Model {
    /// Reads the file. Seconds for a large one.
    pub fn load(options: &ModelOptions) -> Result<Self, Error> {
        let fail = |problem: String| Error::Model { path: options.path.clone(), problem };
        check_file(&options.path).map_err(fail)?;
        // Before it is read: a file that is replaced meanwhile is another version the next time.
        let version = version(options);
        let mut params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
        if !options.cards.is_empty() {
            let devices = cards::devices(&options.cards).map_err(fail)?;
            params = params.with_devices(&devices).map_err(|error| fail(error.to_string()))?;
        } else if options.gpu_layers > 0 && cards::all().is_empty() {
            tracing::warn!(layers = options.gpu_layers, "there is no graphics card to put layers on; the processor computes all of them");
        }
        let weights = LlamaModel::load_from_file(backend()?, &options.path, &params).map_err(|error| {
            fail(format!("llama.cpp refuses the file ({error}): it is incomplete, damaged or of an unknown architecture; its own message is in the log"))
        })?;
        let template = Template::new(
            chat_template(&weights),
            token_text(&weights.vocab(), weights.vocab().bos()),
            token_text(&weights.vocab(), weights.vocab().eos()),
        )
        .map_err(|error| fail(format!("its chat template is broken: {error}")))?;
        if let Some(asked) = options.context_length.filter(|asked| *asked > weights.n_ctx_train()) {
            tracing::warn!(
                asked,
                trained = weights.n_ctx_train(),
                "the context is longer than the model was trained for; answers may degrade"
            );
        }
        let kind = kind(|key| weights.meta_val_str(key).ok());
        let info = LoadedModel {
            id: options.id.clone(),
            kind,
            dimensions: if kind == ModelKind::Embedding { u32::try_from(weights.n_embd_out()).unwrap_or(0) } else { 0 },
            context_length: context_length(options, kind, weights.n_ctx_train()),
            slots: options.slots,
            state: ModelState::Ready,
            problem: None,
            memory: 0,
            version,
        };
        let defaults = Defaults::from_metadata(|key| weights.meta_val_str(key).ok());
        let grammars = match kind {
            ModelKind::Chat => Grammars::new(&weights.vocab()),
            ModelKind::Embedding | ModelKind::Reranker => Err("the model writes nothing".into()),
        };
        if let Err(error) = &grammars
            && kind == ModelKind::Chat
        {
            tracing::warn!(error, "llguidance does not accept the vocabulary; schemas and grammars will be refused");
        }
        Ok(Self { weights: Arc::new(weights), info, defaults, speculate: options.speculate, grammars, template })
    }

    /// A conversation in the words of the model's template.
    ///
    /// # Errors
    /// A sentence for the caller: the template refuses these messages.
    pub fn prompt(&self, conversation: &Conversation<'_>) -> Result<Prompt, String> {
        let pieces = self.template.render(conversation)?;
        let thinks = self.template.begins_thoughts(&pieces);
        Ok(self.tokenised(pieces, thinks))
    }

    /// A prompt without a template.
    ///
    /// # Errors
    /// A sentence for the caller: the model has no such token.
    pub fn raw_prompt(&self, prompt: &ChatMessage) -> Result<Prompt, String> {
        if prompt.tokens.is_empty() {
            return Ok(self.tokenised(vec![Piece::Plain(prompt.content.clone())], false));
        }
        Ok(Prompt { tokens: self.tokens("prompt", &prompt.tokens)?, thinks: false, pieces: Vec::new() })
    }

    /// What marks the parts of a prompt whose middle is to be filled in, as the file says or llama.cpp knows by their texts;
    /// `None` if the model was not taught it.
    pub fn fill_marks(&self) -> Option<FillMarks> {
        let vocab = self.weights.vocab();
        let known = |token: LlamaToken| (token.0 >= 0).then_some(token);
        Some(FillMarks { before: known(vocab.fim_pre())?, behind: known(vocab.fim_suf())?, middle: known(vocab.fim_mid())? })
    }

    /// A prompt for what comes between two texts, in the order of llama-server's `/infill`: prefix, suffix, middle.
    ///
    /// # Errors
    /// As [`Model::raw_prompt`].
    pub fn fill_prompt(&self, marks: FillMarks, before: &ChatMessage, behind: &ChatMessage) -> Result<Prompt, String> {
        let vocab = self.weights.vocab();
        let mut tokens: Vec<LlamaToken> = begin(&vocab).into_iter().chain([marks.before]).collect();
        match before.tokens.as_slice() {
            [] => vocab.tokenize_into(before.content.as_bytes(), &mut tokens, false, false),
            numbers => tokens.extend(self.tokens("prompt", numbers)?),
        }
        tokens.push(marks.behind);
        tokens.extend(match anchor(&vocab) {
            Some(anchor) => tokenise_after(&vocab, &anchor, &behind.content, false),
            None => vocab.tokenize(behind.content.as_bytes(), false, false),
        });
        tokens.push(marks.middle);
        Ok(Prompt { tokens, thinks: false, pieces: Vec::new() })
    }

    fn tokenised(&self, pieces: Vec<Piece>, thinks: bool) -> Prompt {
        let (tokens, starts) = tokenise(&self.weights.vocab(), &pieces);
        Prompt { tokens, thinks, pieces: pieces.into_iter().zip(starts).collect() }
    }

    /// How many tokens at the beginning of `prompt` come from that conversation, whatever follows it.
    pub fn beginning(&self, prompt: &[LlamaToken], conversation: &Conversation<'_>) -> usize {
        // A template may refuse so few messages; then there is nothing that could be told apart.
        let alone = self.prompt(conversation).map(|alone| alone.tokens).unwrap_or_default();
        prompt.iter().zip(&alone).take_while(|(a, b)| a == b).count()
    }

    /// The tokens of an input for an embedding model, or of a pair for a reranker.
    ///
    /// # Errors
    /// A sentence for the caller: this model takes the other kind.
    pub fn input(&self, input: &EmbedInput) -> Result<Vec<LlamaToken>, String> {
        let vocab = self.weights.vocab();
        match (self.info.kind, input) {
            (ModelKind::Embedding, EmbedInput::Text(text)) => Ok(vocab.tokenize(text.as_bytes(), true, false)),
            (ModelKind::Embedding, EmbedInput::Tokens(tokens)) => self.tokens("input", tokens),
            (ModelKind::Reranker, EmbedInput::Pair { query, document }) => Ok(pair(&vocab, query, document)),
            (ModelKind::Embedding, EmbedInput::Pair { .. }) => Err("an embedding model takes texts, no pairs".into()),
            (ModelKind::Reranker, EmbedInput::Text(_) | EmbedInput::Tokens(_)) => {
                Err("a reranker takes pairs of query and document".into())
            }
            (ModelKind::Chat, _) => Err("this is a chat model; it makes no vectors".into()),
        }
    }

    /// Tokens that somebody gave the numbers of, in this field.
    fn tokens(&self, field: &str, numbers: &[u32]) -> Result<Vec<LlamaToken>, String> {
        let vocabulary = self.weights.n_vocab();
        let token = |number: &u32| {
            let known = i32::try_from(*number).ok().filter(|number| *number < vocabulary);
            known.map(LlamaToken).ok_or_else(|| format!("{field}: there is no token {number}; this model's are 0 to {}", vocabulary - 1))
        };
        numbers.iter().map(token).collect()
    }

    /// How it writes calls of tools.
    pub fn family(&self) -> Family {
        self.template.family()
    }

    /// How it thinks before it answers, if it may.
    pub fn thoughts(&self) -> Option<&'static Thoughts> {
        self.template.thoughts()
    }
}

/// What a file is for, from the way in which the model's outputs are pooled; chat models pool nothing.
pub fn kind(value: impl Fn(&str) -> Option<String>) -> ModelKind {
    let architecture = value("general.architecture").unwrap_or_default();
    // llama.cpp's numbers: 0 none, 1 mean, 2 first, 3 last, 4 rank.
    match value(&format!("{architecture}.pooling_type")).as_deref() {
        Some("1" | "2" | "3") => ModelKind::Embedding,
        Some("4") => ModelKind::Reranker,
        _ => ModelKind::Chat,
    }
}

/// Tokens for one sequence.
pub fn context_length(options: &ModelOptions, kind: ModelKind, trained: u32) -> u32 {
    let length = options.context_length.unwrap_or_else(|| DEFAULT_CONTEXT.min(trained));
    // Such models have a place in a table for each position; beyond it llama.cpp ends the process.
    if kind == ModelKind::Chat { length } else { length.min(trained) }
}

/// Which file it is, and what else the model's words depend on; empty if the file tells nothing.
pub fn version(options: &ModelOptions) -> String {
    let told = |file: std::fs::Metadata| {
        let (bytes, seconds, nanos) = (file.len(), file.mtime(), file.mtime_nsec());
        let (cache_type, flash_attention) = (options.cache_type, options.flash_attention);
        format!("{bytes}-{seconds}.{nanos}-{cache_type:?}-{flash_attention:?}-{LLAMA}-{}", env!("CARGO_PKG_VERSION"))
    };
    std::fs::metadata(&options.path).map(told).unwrap_or_default()
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

/// Query and document as cross-encoders are trained: `[CLS] query [SEP] document [SEP]`, or what the vocabulary has in
/// their place.
fn pair(vocab: &LlamaVocab<'_>, query: &str, document: &str) -> Vec<LlamaToken> {
    let mut tokens = Vec::new();
    let special = |tokens: &mut Vec<LlamaToken>, wanted: bool, token: LlamaToken| {
        if wanted && token.0 >= 0 {
            tokens.push(token);
        }
    };
    special(&mut tokens, vocab.should_add_bos(), vocab.bos());
    vocab.tokenize_into(query.as_bytes(), &mut tokens, false, false);
    special(&mut tokens, vocab.should_add_eos(), vocab.eos());
    special(&mut tokens, vocab.should_add_sep(), vocab.sep());
    vocab.tokenize_into(document.as_bytes(), &mut tokens, false, false);
    special(&mut tokens, vocab.should_add_eos(), vocab.eos());
    special(&mut tokens, vocab.should_add_sep() && !vocab.should_add_eos(), vocab.sep());
    tokens
}

/// The tokens, and how many of them come before each piece. Control tokens are recognised only in the template's own text.
fn tokenise(vocab: &LlamaVocab<'_>, pieces: &[Piece]) -> (Vec<LlamaToken>, Vec<usize>) {
    let (mut tokens, mut starts) = (Vec::new(), Vec::with_capacity(pieces.len()));
    let written = |bos: &LlamaToken| matches!(pieces.first(), Some(Piece::Control(text)) if text.starts_with(&token_text(vocab, *bos)));
    tokens.extend(begin(vocab).filter(|bos| !written(bos)));
    let anchor = anchor(vocab);
    for (at, piece) in pieces.iter().enumerate() {
        starts.push(tokens.len());
        let (text, special) = match piece {
            Piece::Control(text) => (text, true),
            Piece::Plain(text) => (text, false),
        };
        match &anchor {
            Some(anchor) if at > 0 => tokens.extend(tokenise_after(vocab, anchor, text, special)),
            _ => vocab.tokenize_into(text.as_bytes(), &mut tokens, false, special),
        }
    }
    (tokens, starts)
}

/// The token that every prompt of the model begins with, if there is one.
fn begin(vocab: &LlamaVocab<'_>) -> Option<LlamaToken> {
    Some(vocab.bos()).filter(|bos| vocab.should_add_bos() && bos.0 >= 0)
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

#[cfg(test)]
mod tests {
    use super::{LLAMA, LlamaToken, Piece, Prompt};

    #[test]
    fn what_comes_before_a_message_is_known_without_tokenising_again() {
        let control = |text: &str| Piece::Control(text.into());
        let plain = |text: &str| Piece::Plain(text.into());
        let pieces =
            vec![(control("<system>"), 0), (plain("Be brief."), 1), (control("<user>"), 4), (plain("Well?"), 5), (plain("Well?"), 7)];
        let prompt = Prompt { tokens: vec![LlamaToken(1); 9], thinks: false, pieces };
        assert_eq!(["Well?", "Be brief.", "<user>", "Well"].map(|text| prompt.before(text)), [5, 1, 0, 0]);
    }

    #[test]
    fn the_version_of_llama_is_that_of_what_is_built_in() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        for name in ["llama-cpp-2", "llama-cpp-sys-2"] {
            assert!(
                lock.contains(&format!("name = \"{name}\"\nversion = \"{LLAMA}\"\n")),
                "If you are here because this failed: {name} is another one; say so in LLAMA, so that nothing that was kept of the old \
                 one is taken for its own."
            );
        }
    }
}
