//! What the scripted upstream says: canned bytes in the form of OpenAI's API, made once.

use bytes::Bytes;

/// Every text consists of these, so that the other side can count what arrived however it was cut.
pub const PIECE: &str = "tick ";
/// Pieces of an answer that comes at once.
pub const PIECES: u32 = 8;
/// The name of the model.
pub const MODEL: &str = "bench";

pub const STREAM: &[u8] = b"\"stream\"";
pub const INCLUDE_USAGE: &[u8] = b"\"include_usage\"";

pub const MODELS: &str = r#"{"object":"list","data":[{"id":"bench","object":"model","created":1700000000,"owned_by":"bench"}]}"#;
pub const BROKEN: &str =
    r#"{"error":{"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}}"#;
pub const FULL: &str =
    r#"{"error":{"message":"Rate limit reached for requests.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

const PROMPT_TOKENS: u32 = 16;
/// Bytes at either end of a request's body that are looked at.
const ENDS: usize = 2048;

/// An answer in one piece.
pub fn whole(pieces: u32) -> Bytes {
    let (text, usage) = (text(pieces), usage(pieces));
    let head = r#""id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench""#;
    let message = format!(r#"{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}}"#);
    let choice = format!(r#"{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}"#);
    format!(r#"{{{head},"choices":[{choice}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_bench"}}"#).into()
}

/// The chunks of a streamed answer.
#[derive(Clone, Debug)]
pub struct Chunks {
    /// Who speaks, and the first piece.
    pub first: Bytes,
    /// One more piece.
    pub piece: Bytes,
    /// Why it ends, the figures if they were asked for, and the end.
    pub last: Bytes,
    /// All of it.
    pub at_once: Bytes,
}

impl Chunks {
    /// Of so many pieces; `counted`: with the figures at the end, as `stream_options.include_usage` wants it.
    pub fn new(pieces: u32, counted: bool) -> Self {
        let null = if counted { r#","usage":null"# } else { "" };
        let say = |delta: &str, finish: &str| {
            chunk(&format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#), null)
        };
        let piece = say(&format!(r#"{{"content":"{PIECE}"}}"#), "null");
        let first = say(r#"{"role":"assistant","content":"","refusal":null}"#, "null") + &piece;
        let figures = if counted { chunk("[]", &format!(r#","usage":{}"#, usage(pieces))) } else { String::new() };
        let last = say("{}", r#""stop""#) + &figures + "data: [DONE]\n\n";
        let between = piece.repeat(usize::try_from(pieces.saturating_sub(1)).unwrap_or(0));
        let at_once = format!("{first}{between}{last}");
        Self { first: first.into(), piece: piece.into(), last: last.into(), at_once: at_once.into() }
    }
}

fn chunk(choices: &str, usage: &str) -> String {
    let head = r#""id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench""#;
    format!("data: {{{head},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\",\"choices\":{choices}{usage}}}\n\n")
}

fn text(pieces: u32) -> String {
    PIECE.repeat(usize::try_from(pieces).unwrap_or(0))
}

fn usage(pieces: u32) -> String {
    let total = PROMPT_TOKENS + pieces;
    let prompt = r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}"#;
    let completion = r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}"#;
    format!(r#"{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{pieces},"total_tokens":{total},{prompt},{completion}}}"#)
}

/// The body has the field (given in its quotes) with the value `true`. Looks at both ends only: the prompt, which may be
/// long, lies between.
pub fn says_true(body: &[u8], field: &[u8]) -> bool {
    let (head, tail) = (&body[..body.len().min(ENDS)], &body[body.len().saturating_sub(ENDS)..]);
    holds(head, field) || holds(tail, field)
}

fn holds(part: &[u8], field: &[u8]) -> bool {
    part.windows(field.len()).enumerate().filter(|(_, window)| *window == field).any(|(at, _)| {
        let value = part[at + field.len()..].trim_ascii_start();
        value.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}

#[cfg(test)]
mod tests {
    use super::{BROKEN, Chunks, FULL, INCLUDE_USAGE, MODELS, PIECES, STREAM, says_true, whole};
    use serde_json::Value;

    #[test]
    fn everything_is_json() {
        for text in [MODELS, BROKEN, FULL] {
            serde_json::from_str::<Value>(text).unwrap();
        }
        let answer: Value = serde_json::from_slice(&whole(PIECES)).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().matches("tick ").count(), 8);
        assert_eq!(answer["usage"]["completion_tokens"], 8);
    }

    #[test]
    fn a_stream_has_its_figures_only_if_they_were_asked_for() {
        let events = |counted| {
            let text = String::from_utf8(Chunks::new(3, counted).at_once.to_vec()).unwrap();
            let events: Vec<String> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect();
            assert_eq!(events.last().unwrap(), "[DONE]");
            events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect::<Vec<Value>>()
        };
        let (plain, counted) = (events(false), events(true));
        // Who speaks, three pieces, why it ends; and the figures.
        assert_eq!((plain.len(), counted.len()), (5, 6));
        assert!(plain.iter().all(|event| event.get("usage").is_none()));
        assert!(counted[..5].iter().all(|event| event["usage"].is_null()));
        assert_eq!(counted[5]["usage"]["total_tokens"], 19);
        assert_eq!(counted[4]["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn fields_are_found_at_either_end_of_the_body() {
        let long = "word ".repeat(10_000);
        let body = format!(r#"{{"messages":[{{"content":"{long}"}}],"stream" : true,"stream_options":{{"include_usage":false}}}}"#);
        assert!(says_true(body.as_bytes(), STREAM));
        assert!(!says_true(body.as_bytes(), INCLUDE_USAGE));
        let body = format!(r#"{{"stream":true,"messages":[{{"content":"{long}"}}]}}"#);
        assert!(says_true(body.as_bytes(), STREAM));
        assert!(!says_true(b"{}", STREAM) && !says_true(b"", STREAM));
    }
}
