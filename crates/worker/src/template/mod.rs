//! The model's own chat template, rendered so that nothing a user wrote can become a control token.
//!
//! The template never sees a message's text, only a marker in its place; likewise what tools are described with and
//! called with. What comes out is cut at the markers into the template's own text (whose control tokens count) and the
//! others' texts (which stay plain text, whatever they look like).

mod fallback;
mod ids;
#[cfg(test)]
mod tests;
mod texts;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::parse_strftime_owned;
use worker_protocol::{ChatMessage, ChatRole, Tool};

use crate::tools::{Family, Thoughts};
use texts::{Texts, mark};

/// For files without a template; most instruction-tuned models understand it.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const NAME: &str = "chat";

/// A part of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Written by the template: control tokens in it are control tokens.
    Control(String),
    /// Written by somebody else: tokenised as plain text.
    Plain(String),
}

/// What a prompt is made of.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    pub messages: &'a [ChatMessage],
    /// What may be called.
    pub tools: &'a [Tool],
    /// The last message, an answer of the assistant, stays open: its end-of-turn marker is left out and the model goes
    /// on from it.
    pub continue_last: bool,
    /// `None`: as the template has it.
    pub think: Option<bool>,
}

/// A compiled chat template.
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    family: Option<Family>,
    thoughts: Option<&'static Thoughts>,
}

impl Template {
    /// `source` is the file's template; `None` takes ChatML. `bos` and `eos` are the texts of those tokens.
    ///
    /// # Errors
    /// What is wrong with the template, with its line.
    pub fn new(source: Option<String>, bos: String, eos: String) -> Result<Self, String> {
        let source = source.unwrap_or_else(|| CHATML.to_owned());
        let (family, thoughts) = (Family::of(&source), Thoughts::of(&source));
        let mut environment = Environment::new();
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        // As Hugging Face's tokenizers render them; templates rely on it.
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(|error| error.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", texts::tojson);
        environment.add_template_owned(NAME, source).map_err(|error| format!("{error:#}"))?;
        Ok(Self { environment, bos, eos, family, thoughts })
    }

    /// How calls of tools are written.
    pub fn family(&self) -> Family {
        self.family.unwrap_or(Family::Hermes)
    }

    /// How the model thinks before it answers, if it may.
    pub fn thoughts(&self) -> Option<&'static Thoughts> {
        self.thoughts
    }

    /// The prompt has begun the model's thoughts.
    pub fn begins_thoughts(&self, pieces: &[Piece]) -> bool {
        matches!((self.thoughts, pieces.last()), (Some(thoughts), Some(Piece::Control(text))) if thoughts.begun_in(text))
    }

    /// The pieces of the prompt, in order.
    ///
    /// # Errors
    /// A sentence for the caller: the template refuses these messages.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<Vec<Piece>, String> {
        let Conversation { messages, tools, continue_last, .. } = *conversation;
        if messages.is_empty() {
            return Err("messages must not be empty".into());
        }
        if continue_last && messages.last().is_none_or(|last| last.role != ChatRole::Assistant) {
            return Err("continue_last needs an assistant's message at the end".into());
        }
        if self.family.is_none() && (!tools.is_empty() || fallback::speaks_of_tools(messages)) {
            let messages = fallback::in_words(messages, tools);
            return self.render(&Conversation { messages: &messages, tools: &[], ..*conversation });
        }
        let renamed = (self.family == Some(Family::Kimi)).then(|| ids::of_kimi(messages));
        let messages = renamed.as_deref().unwrap_or(messages);
        let conversation = &Conversation { messages, ..*conversation };
        let texts = Arc::new(Texts::default());
        let contents: Vec<String> = messages.iter().map(|message| self.content(&texts, message)).collect();
        // The last one's mark is the end of an open answer.
        let last = contents.len() - 1;
        let rendered =
            self.with_objects(conversation, &texts, &contents).or_else(|error| match without_system(messages, &contents, &texts) {
                // Some templates (Gemma) know no system role; its text then leads the first question.
                Some((messages, contents)) => {
                    self.with_objects(&Conversation { messages: &messages, ..*conversation }, &texts, &contents).map_err(|_| error)
                }
                None => Err(error),
            });
        let rendered = rendered.map_err(|error| format!("the model's chat template refuses these messages: {error}"))?;
        let rendered = if continue_last { open_end(rendered, last)? } else { rendered };
        Ok(texts.cut(&rendered))
    }

    /// The mark of a message's text. Empty texts of answers that call tools have none: templates ask whether there is any.
    fn content(&self, texts: &Texts, message: &ChatMessage) -> String {
        let mark = texts.mark(&message.content);
        if message.content.is_empty() && !message.tool_calls.is_empty() { String::new() } else { mark }
    }

    /// Most templates want the arguments of calls as objects, some (DeepSeek) as texts.
    fn with_objects(&self, conversation: &Conversation<'_>, texts: &Arc<Texts>, contents: &[String]) -> Result<String, String> {
        let calls = conversation.messages.iter().any(|message| !message.tool_calls.is_empty());
        let objects = self.text(conversation, texts, contents, true);
        if calls && (objects.is_err() || self.family == Some(Family::DeepSeek)) {
            return self.text(conversation, texts, contents, false);
        }
        objects
    }

    fn text(&self, conversation: &Conversation<'_>, texts: &Arc<Texts>, contents: &[String], objects: bool) -> Result<String, String> {
        let message = |(message, content): (&ChatMessage, &String)| self.message(texts, message, content, objects);
        let messages: Vec<serde_json::Value> = conversation.messages.iter().zip(contents).map(message).collect();
        let tools: Vec<serde_json::Value> = conversation.tools.iter().map(|tool| texts.mark_all(&described(tool))).collect();
        // Templates have different names for it.
        let thinking = |think: bool| context! { enable_thinking => think, thinking => think, reasoning => think };
        let thinking = conversation.think.map_or_else(|| context! {}, thinking);
        let template = self.environment.get_template(NAME).map_err(|error| error.to_string())?;
        template
            .render(context! {
                messages => Value::from(Serde(messages)),
                tools => if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) },
                add_generation_prompt => !conversation.continue_last,
                bos_token => &self.bos,
                eos_token => &self.eos,
                kontor_texts => Value::from_dyn_object(texts.clone()),
                ..thinking
            })
            .map_err(|error| error.detail().map_or_else(|| error.to_string(), str::to_owned))
    }

    fn message(&self, texts: &Texts, message: &ChatMessage, content: &str, objects: bool) -> serde_json::Value {
        let mut value = json!({"role": role_name(message.role), "content": content});
        if let Some(reasoning) = &message.reasoning {
            value["reasoning_content"] = texts.mark(reasoning).into();
            if self.family == Some(Family::Harmony) && content.is_empty() {
                // Under its own name; gpt-oss's template refuses it beside a text.
                value["thinking"] = texts.mark(reasoning).into();
            }
        }
        let id = |id: &str| {
            if self.family == Some(Family::Mistral) {
                ids::nine(id)
            } else {
                texts.mark_all(&id.into()).as_str().unwrap_or_default().to_owned()
            }
        };
        if !message.tool_calls.is_empty() {
            let call = |call: &worker_protocol::ToolCall| {
                let object = serde_json::from_str::<serde_json::Value>(&call.arguments).ok().filter(|value| objects && value.is_object());
                let arguments = object.map_or_else(|| texts.mark(&call.arguments).into(), |object| texts.mark_all(&object));
                json!({"id": id(&call.id), "type": "function", "function": {"name": texts.mark_all(&call.name.as_str().into()), "arguments": arguments}})
            };
            value["tool_calls"] = message.tool_calls.iter().map(call).collect();
        }
        if let Some(answers) = &message.tool_call_id {
            value["tool_call_id"] = id(answers).into();
        }
        value
    }
}

/// A tool as templates know it.
fn described(tool: &Tool) -> serde_json::Value {
    let mut function = json!({"name": tool.name});
    if let Some(description) = &tool.description {
        function["description"] = description.as_str().into();
    }
    function["parameters"] = tool.parameters.clone();
    json!({"type": "function", "function": function})
}

fn role_name(role: ChatRole) -> &'static str {
    match role {
        ChatRole::System => "system",
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
        ChatRole::Tool => "tool",
    }
}

/// The messages with a leading system message merged into the first user's; `None` if there is nothing to merge.
fn without_system(messages: &[ChatMessage], contents: &[String], texts: &Texts) -> Option<(Vec<ChatMessage>, Vec<String>)> {
    let (first, rest) = messages.split_first().filter(|(first, _)| first.role == ChatRole::System)?;
    let user = rest.iter().position(|message| message.role == ChatRole::User)?;
    let mut contents = contents.get(1..)?.to_vec();
    contents[user] = format!("{}\n\n{}", texts.mark(&first.content), contents[user]);
    Some((rest.to_vec(), contents))
}

/// Drops what the template writes after the last message.
fn open_end(mut rendered: String, last: usize) -> Result<String, String> {
    let mark = mark(last);
    let at = rendered.rfind(&mark).ok_or("the model's chat template leaves out the last message, so it cannot be continued")?;
    rendered.truncate(at + mark.len());
    Ok(rendered)
}

/// Templates call it to refuse messages.
fn raise_exception(message: String, _: Kwargs) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Templates call it to tell the model today's date.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    let bad = |error: String| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"));
    let since_epoch = UNIX_EPOCH.elapsed().map_err(|error| bad(error.to_string()))?;
    let format = parse_strftime_owned(format).map_err(|error| bad(error.to_string()))?;
    (OffsetDateTime::UNIX_EPOCH + since_epoch).format(&format).map_err(|error| bad(error.to_string()))
}
