//! Texts that the template handles only as marks, and their way back.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, Serde, Value};
use minijinja::{ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::Piece;

/// Plain letters and digits, so that trimming, escaping or JSON in a template leave it alone.
const MARK: &str = "kQ7zContent";
/// Under this name a template's state holds the texts.
pub const TEXTS: &str = "kontor_texts";

/// The texts behind the marks of one rendering.
#[derive(Debug, Default)]
pub struct Texts(Mutex<Vec<String>>);

impl Object for Texts {}

impl Texts {
    /// A mark that stands for `text`.
    pub fn mark(&self, text: &str) -> String {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.push(text.to_owned());
        mark(texts.len() - 1)
    }

    /// `value` with marks in place of all texts that could be more than a word. A template may compare words, and a
    /// word of letters, digits and `_` is no control token in any vocabulary.
    pub fn mark_all(&self, value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::String(text) if !is_word(text) => self.mark(text).into(),
            serde_json::Value::Array(values) => values.iter().map(|value| self.mark_all(value)).collect(),
            serde_json::Value::Object(map) => {
                let key = |key: &String| if is_word(key) { key.clone() } else { self.mark(key) };
                map.iter().map(|(name, value)| (key(name), self.mark_all(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Splits a rendered prompt at the marks and puts the texts in.
    pub fn cut(&self, rendered: &str) -> Vec<Piece> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        for part in parts(rendered, &texts) {
            match part {
                Part::Template("") => {}
                Part::Template(text) => pieces.push(Piece::Control(text.to_owned())),
                Part::Text("") => {}
                Part::Text(text) => pieces.push(Piece::Plain(text.to_owned())),
            }
        }
        pieces
    }

    /// JSON with the texts in place of the marks, escaped as JSON wants it.
    fn expand(&self, json: &str) -> String {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expanded = String::with_capacity(json.len());
        for part in parts(json, &texts) {
            match part {
                Part::Template(text) => expanded.push_str(text),
                Part::Text(text) => {
                    let quoted = serde_json::Value::from(text).to_string();
                    expanded.push_str(&quoted[1..quoted.len() - 1]);
                }
            }
        }
        expanded
    }
}

/// The mark of the text with that number.
pub fn mark(at: usize) -> String {
    format!("{MARK}{at}x")
}

enum Part<'a> {
    Template(&'a str),
    Text(&'a str),
}

fn parts<'a>(mut rest: &'a str, texts: &'a [String]) -> Vec<Part<'a>> {
    let whole = rest;
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(at) = rest.find(MARK) {
        let after = &rest[at + MARK.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let text = after[..digits].parse().ok().and_then(|index: usize| texts.get(index));
        let begin = whole.len() - rest.len() + at;
        // A template that happens to contain the mark itself keeps it.
        if let (Some(text), true) = (text, after[digits..].starts_with('x')) {
            parts.push(Part::Template(&whole[from..begin]));
            parts.push(Part::Text(text));
            rest = &after[digits + 1..];
            from = whole.len() - rest.len();
        } else {
            rest = after;
        }
    }
    parts.push(Part::Template(&whole[from..]));
    parts
}

fn is_word(text: &str) -> bool {
    text.len() <= 64 && !text.contains(MARK) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The filter `tojson`, as Python's `json.dumps` writes it, which is what models are trained on. What comes out is a
/// mark: the JSON of somebody's texts is somebody's text.
pub fn tojson(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Templates set others as well (`ensure_ascii`, `separators`), which are as here.
    let wrong = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}"));
    let json = match indent {
        Some(indent) => write(value, PrettyFormatter::with_indent(" ".repeat(indent.min(16)).as_bytes())),
        None => write(value, Python(CompactFormatter)),
    }
    .map_err(wrong)?;
    let texts = state.lookup(TEXTS).ok_or_else(|| wrong("outside of a prompt".into()))?;
    let texts = texts.downcast_object_ref::<Texts>().ok_or_else(|| wrong("the texts are gone".into()))?;
    Ok(texts.mark(&texts.expand(&json)))
}

fn write(value: &Value, formatter: impl Formatter) -> Result<String, String> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, formatter)).map_err(|error| error.to_string())?;
    String::from_utf8(json).map_err(|error| error.to_string())
}

/// `{"a": 1, "b": [2, 3]}`.
struct Python(CompactFormatter);

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

/// JSON as [`tojson`] writes it, for prompts that no template makes.
pub fn python_json(value: &serde_json::Value) -> String {
    write(&Value::from(Serde(value)), Python(CompactFormatter)).unwrap_or_else(|_| {
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = write!(text, "{value}");
        text
    })
}
