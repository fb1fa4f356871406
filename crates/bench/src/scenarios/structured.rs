//! Answers that must match a JSON schema: how much slower than free ones, and are they valid?

use serde_json::{Value, json};

use super::{number, warm_up};
use crate::Result;
use crate::engine::{Answer, Ask, Engine, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::prose;

const QUESTIONS: u64 = 6;
/// More than the schema's longest answer has characters: an answer that is cut is no person, whoever wrote it.
const MOST_TOKENS: u32 = 900;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 1, context: 2048, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let mut speeds = (0.0, 0.0);
    let mut valid = 0_u64;
    for n in 0..QUESTIONS {
        let question = format!("Describe a person from this note as JSON: {}", prose(60 + n, 24));
        let free = engine.ask(Ask { ignore_end: true, ..Ask::question(question.clone(), 96) }).await?;
        let constrained = person(&engine, question).await?;
        speeds.0 += speed(&free);
        speeds.1 += speed(&constrained);
        if is_person(&constrained.text) {
            valid += 1;
        } else {
            eprintln!("  question {n}: {} tokens that are no person: {}", constrained.completion_tokens, constrained.text);
        }
    }
    engine.stop().await?;
    Ok(vec![Figure::new(1, "constrained_per_free", speeds.1 / speeds.0), Figure::new(1, "valid", number(valid) / number(QUESTIONS))])
}

async fn person(engine: &Engine, question: String) -> Result<Answer> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "occupation": {"type": "string", "maxLength": 60},
            "biography": {"type": "string", "maxLength": 240},
            "hobbies": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 2, "maxItems": 4},
            "address": {
                "type": "object",
                "properties": {"street": {"type": "string", "maxLength": 40}, "city": {"type": "string", "maxLength": 40}},
                "required": ["street", "city"],
                "additionalProperties": false
            }
        },
        "required": ["name", "age", "occupation", "biography", "hobbies", "address"],
        "additionalProperties": false
    });
    engine.ask(Ask { schema: Some(schema), ..Ask::question(question, MOST_TOKENS) }).await
}

/// Tokens per second after the first one.
fn speed(answer: &Answer) -> f64 {
    number(answer.completion_tokens.saturating_sub(1)) / (answer.took.saturating_sub(answer.ttft())).as_secs_f64()
}

fn is_person(text: &str) -> bool {
    let Ok(person) = serde_json::from_str::<Value>(text) else { return false };
    let strings = ["name", "occupation", "biography"].iter().all(|key| person[key].is_string());
    let age = person["age"].as_u64().is_some_and(|age| age <= 120);
    let hobbies =
        person["hobbies"].as_array().is_some_and(|hobbies| (2..=4).contains(&hobbies.len()) && hobbies.iter().all(Value::is_string));
    strings && age && hobbies && person["address"]["street"].is_string() && person["address"]["city"].is_string()
}
