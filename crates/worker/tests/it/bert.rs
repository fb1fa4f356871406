//! A tiny BERT with made-up weights: as a GGUF file for the worker, and as plain arithmetic to compare with.

use std::io::Write;
use std::path::Path;

pub const CONTEXT: usize = 64;
pub const WIDTH: usize = 32;
const HEADS: usize = 4;
const INNER: usize = 64;
const LAYERS: usize = 2;
const EPSILON: f32 = 1e-12;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: [&str; 12] = ["the", "a", "kontor", "trades", "in", "salt", "ships", "sail", "to", "bergen", "bank", "river"];
const UNKNOWN: usize = 1;
const BEGIN: usize = 2;
const SEPARATOR: usize = 3;

/// How the outputs of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean = 1,
    Rank = 4,
}

/// Rows of numbers.
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

pub struct Bert {
    pooling: Pooling,
    tensors: Vec<(String, Matrix)>,
}

impl Bert {
    pub fn new(pooling: Pooling) -> Self {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut tensors = Vec::new();
        let mut add = |name: &str, rows: usize, columns: usize, scale: f32, offset: f32| {
            let mut draw = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                #[expect(clippy::cast_precision_loss, reason = "24 bits")]
                let unit = (random >> 40) as f32 / 16_777_216.0;
                offset + scale * (2.0 * unit - 1.0)
            };
            let values = (0..rows * columns).map(|_| draw()).collect();
            tensors.push((name.to_owned(), Matrix { rows, columns, values }));
        };
        add("token_embd.weight", SPECIAL.len() + WORDS.len(), WIDTH, 1.0, 0.0);
        add("token_types.weight", 2, WIDTH, 0.1, 0.0);
        add("position_embd.weight", CONTEXT, WIDTH, 0.3, 0.0);
        add("token_embd_norm.weight", 1, WIDTH, 0.1, 1.0);
        add("token_embd_norm.bias", 1, WIDTH, 0.1, 0.0);
        for layer in 0..LAYERS {
            for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                add(&format!("blk.{layer}.{name}.weight"), WIDTH, WIDTH, 0.3, 0.0);
                add(&format!("blk.{layer}.{name}.bias"), 1, WIDTH, 0.1, 0.0);
            }
            for name in ["attn_output_norm", "layer_output_norm"] {
                add(&format!("blk.{layer}.{name}.weight"), 1, WIDTH, 0.1, 1.0);
                add(&format!("blk.{layer}.{name}.bias"), 1, WIDTH, 0.1, 0.0);
            }
            add(&format!("blk.{layer}.ffn_up.weight"), INNER, WIDTH, 0.3, 0.0);
            add(&format!("blk.{layer}.ffn_up.bias"), 1, INNER, 0.1, 0.0);
            add(&format!("blk.{layer}.ffn_down.weight"), WIDTH, INNER, 0.3, 0.0);
            add(&format!("blk.{layer}.ffn_down.bias"), 1, WIDTH, 0.1, 0.0);
        }
        if pooling == Pooling::Rank {
            add("cls.weight", WIDTH, WIDTH, 0.3, 0.0);
            add("cls.bias", 1, WIDTH, 0.1, 0.0);
            add("cls.output.weight", 1, WIDTH, 1.0, 0.0);
            add("cls.output.bias", 1, 1, 0.1, 0.0);
        }
        Self { pooling, tensors }
    }

    fn get(&self, name: &str) -> &Matrix {
        self.tensors.iter().find(|(known, _)| known == name).map(|(_, matrix)| matrix).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What a text is made of, with the marks around it.
    pub fn tokens(text: &str) -> Vec<usize> {
        [BEGIN].into_iter().chain(words(text)).chain([SEPARATOR]).collect()
    }

    /// The pooled output for one text: its vector of length 1.
    pub fn embed(&self, text: &str) -> Vec<f32> {
        let outputs = self.outputs(&Self::tokens(text));
        #[expect(clippy::cast_precision_loss, reason = "a few tokens")]
        let count = outputs.len() as f32;
        let mean: Vec<f32> = (0..WIDTH).map(|at| outputs.iter().map(|output| output[at]).sum::<f32>() / count).collect();
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        mean.into_iter().map(|x| x / length).collect()
    }

    /// The score of a pair.
    pub fn rank(&self, query: &str, document: &str) -> f32 {
        let (query, document) = (words(query), words(document));
        let tokens: Vec<usize> = [BEGIN].into_iter().chain(query).chain([SEPARATOR]).chain(document).chain([SEPARATOR]).collect();
        let first = self.outputs(&tokens).remove(0);
        let inner: Vec<f32> = self.linear("cls", &first).into_iter().map(f32::tanh).collect();
        self.linear("cls.output", &inner)[0]
    }

    fn outputs(&self, tokens: &[usize]) -> Vec<Vec<f32>> {
        let embedded = tokens.iter().enumerate().map(|(position, token)| {
            let parts = [self.get("token_embd.weight").row(*token), self.get("token_types.weight").row(0)];
            let parts = parts.into_iter().chain([self.get("position_embd.weight").row(position)]);
            let sum = parts.fold(vec![0.0; WIDTH], |sum, part| add(&sum, part));
            self.norm("token_embd_norm", &sum)
        });
        let mut states: Vec<Vec<f32>> = embedded.collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let of = |part: &str| states.iter().map(|state| self.linear(&name(part), state)).collect::<Vec<_>>();
            let (queries, keys, values) = (of("attn_q"), of("attn_k"), of("attn_v"));
            let attended = queries.iter().map(|query| attend(query, &keys, &values));
            states = attended
                .zip(&states)
                .map(|(attended, state)| {
                    let state = self.norm(&name("attn_output_norm"), &add(&self.linear(&name("attn_output"), &attended), state));
                    let inner: Vec<f32> = self.linear(&name("ffn_up"), &state).into_iter().map(gelu).collect();
                    self.norm(&name("layer_output_norm"), &add(&self.linear(&name("ffn_down"), &inner), &state))
                })
                .collect();
        }
        states
    }

    fn linear(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        (0..weight.rows).map(|row| dot(weight.row(row), input) + bias.values[row]).collect()
    }

    fn norm(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        #[expect(clippy::cast_precision_loss, reason = "a small width")]
        let width = input.len() as f32;
        let mean = input.iter().sum::<f32>() / width;
        let variance = input.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width;
        let scale = 1.0 / (variance + EPSILON).sqrt();
        (0..input.len()).map(|at| (input[at] - mean) * scale * weight.values[at] + bias.values[at]).collect()
    }

    /// Writes it as a GGUF file (version 3).
    pub fn write(&self, path: &Path) {
        let mut out = Vec::new();
        let tokens: Vec<String> =
            SPECIAL.iter().map(|t| (*t).to_owned()).chain(WORDS.iter().map(|word| format!("\u{2581}{word}"))).collect();
        let types: Vec<i32> = (0..tokens.len()).map(|at| if at < SPECIAL.len() { 3 } else { 1 }).collect();
        let number = |n: usize| Value::U32(u32::try_from(n).unwrap());
        let values = [
            ("general.architecture", Value::Text("bert".into())),
            ("bert.context_length", number(CONTEXT)),
            ("bert.embedding_length", number(WIDTH)),
            ("bert.block_count", number(LAYERS)),
            ("bert.feed_forward_length", number(INNER)),
            ("bert.attention.head_count", number(HEADS)),
            ("bert.attention.layer_norm_epsilon", Value::F32(EPSILON)),
            ("bert.attention.causal", Value::Bool(false)),
            ("bert.pooling_type", Value::U32(self.pooling as u32)),
            ("tokenizer.ggml.model", Value::Text("bert".into())),
            ("tokenizer.ggml.tokens", Value::Texts(tokens)),
            ("tokenizer.ggml.token_type", Value::Numbers(types)),
            ("tokenizer.ggml.token_type_count", Value::U32(2)),
            ("tokenizer.ggml.padding_token_id", Value::U32(0)),
            ("tokenizer.ggml.unknown_token_id", number(UNKNOWN)),
            ("tokenizer.ggml.bos_token_id", number(BEGIN)),
            ("tokenizer.ggml.cls_token_id", number(BEGIN)),
            ("tokenizer.ggml.seperator_token_id", number(SEPARATOR)),
            ("tokenizer.ggml.mask_token_id", Value::U32(4)),
        ];
        out.extend(b"GGUF");
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        for (key, value) in &values {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0_u64;
        for (name, matrix) in &self.tensors {
            text(&mut out, name);
            let shape: Vec<u64> = if matrix.rows == 1 && !name.ends_with("output.weight") {
                vec![matrix.columns as u64]
            } else {
                vec![matrix.columns as u64, matrix.rows as u64]
            };
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(0_u32.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (matrix.values.len() as u64 * 4).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        for (_, matrix) in &self.tensors {
            matrix.values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            out.resize(out.len().next_multiple_of(32), 0);
        }
        std::fs::File::create(path).unwrap().write_all(&out).unwrap();
    }
}

impl Matrix {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }
}

fn words(text: &str) -> Vec<usize> {
    let number = |word: &str| WORDS.iter().position(|known| *known == word).map_or(UNKNOWN, |at| at + SPECIAL.len());
    text.split_whitespace().map(number).collect()
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
}

fn attend(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
    const PART: usize = WIDTH / HEADS;
    let mut output = Vec::with_capacity(WIDTH);
    for head in 0..HEADS {
        let of = |vector: &[f32]| vector[head * PART..(head + 1) * PART].to_vec();
        #[expect(clippy::cast_precision_loss, reason = "a small width")]
        let scores = keys.iter().map(|key| dot(&of(query), &of(key)) / (PART as f32).sqrt());
        let weights: Vec<f32> = scores.map(f32::exp).collect();
        let total: f32 = weights.iter().sum();
        output.extend((0..PART).map(|at| weights.iter().zip(values).map(|(weight, value)| weight / total * of(value)[at]).sum::<f32>()));
    }
    output
}

enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        match self {
            Self::U32(value) => {
                kind(out, 4);
                out.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                kind(out, 6);
                out.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                kind(out, 7);
                out.push(u8::from(*value));
            }
            Self::Text(value) => {
                kind(out, 8);
                text(out, value);
            }
            Self::Texts(values) => {
                kind(out, 9);
                kind(out, 8);
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| text(out, value));
            }
            Self::Numbers(values) => {
                kind(out, 9);
                kind(out, 5);
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
