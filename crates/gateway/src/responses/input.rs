//! What is said before a response, as clients write it: a text or a list of items, their content a text or a list of
//! parts.

use crate::{
    failure::Failure,
    images::{self, Images},
    known::Known,
    openapi,
};
use inference::ToolCall;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use services::responses::{Asked, InputItem, Item, ItemName, PlacedImage, Role};
use std::{fmt, marker::PhantomData};
use utoipa::ToSchema;

/// A text, or a list.
#[derive(Debug)]
pub enum TextOr<T> {
    Text(String),
    List(Vec<T>),
}

/// An item of any type. What its type has no use for is not there.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseInputItem)]
pub struct WireItem {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    #[schema(schema_with = super::body::role)]
    role: Option<Role>,
    #[schema(schema_with = openapi::text_or::<Part>)]
    content: Option<TextOr<Part>>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    #[schema(schema_with = openapi::text_or::<Part>)]
    output: Option<TextOr<Part>>,
    summary: Option<Vec<Part>>,
    // Known, and nothing that a model is told.
    #[serde(rename = "status")]
    #[schema(schema_with = crate::known::schema)]
    _status: Option<Known>,
    #[serde(rename = "encrypted_content")]
    #[schema(schema_with = crate::known::schema)]
    _encrypted_content: Option<Known>,
    #[serde(rename = "phase")]
    #[schema(schema_with = crate::known::schema)]
    _phase: Option<Known>,
    #[serde(rename = "namespace")]
    #[schema(schema_with = crate::known::schema)]
    _namespace: Option<Known>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseInputPart)]
pub struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    /// Of an `input_image`, in messages of the user, for models that take images: a data URL, `data:image/png;base64,…`. PNG,
    /// JPEG, WebP or GIF of up to 5 MiB.
    image_url: Option<String>,
    /// `auto`, `low`, `high` or `original`.
    detail: Option<String>,
    #[serde(rename = "annotations")]
    #[schema(schema_with = crate::known::schema)]
    _annotations: Option<Known>,
    #[serde(rename = "logprobs")]
    #[schema(schema_with = crate::known::schema)]
    _logprobs: Option<Known>,
    #[serde(rename = "file_id")]
    #[schema(schema_with = crate::known::schema)]
    _file_id: Option<Known>,
    #[serde(rename = "file_data")]
    #[schema(schema_with = crate::known::schema)]
    _file_data: Option<Known>,
    #[serde(rename = "file_url")]
    #[schema(schema_with = crate::known::schema)]
    _file_url: Option<Known>,
    #[serde(rename = "filename")]
    #[schema(schema_with = crate::known::schema)]
    _filename: Option<Known>,
    #[serde(rename = "input_audio")]
    #[schema(schema_with = crate::known::schema)]
    _input_audio: Option<Known>,
}

/// The same for the service.
///
/// # Errors
/// Something that no model here takes, or that makes no sense; with its path.
pub fn input(input: TextOr<WireItem>) -> Result<Vec<Asked>, Failure> {
    match input {
        TextOr::Text(text) => Ok(vec![Asked::Item(InputItem { id: None, item: Item::says(Role::User, vec![text]) })]),
        TextOr::List(items) => {
            let mut images = Images::default();
            items.into_iter().enumerate().map(|(at, item)| convert(&format!("input[{at}]"), item, &mut images)).collect()
        }
    }
}

/// Where the first picture of these is written.
pub fn first_image(asked: &[Asked]) -> Option<String> {
    let of = |asked: &Asked| match asked {
        Asked::Item(InputItem { item: Item::Message { images, .. }, .. }) => images.first().map(|placed| placed.image.path.clone()),
        Asked::Item(_) | Asked::Reference(_) => None,
    };
    asked.iter().find_map(of)
}

fn convert(path: &str, item: WireItem, images: &mut Images) -> Result<Asked, Failure> {
    // Clients leave the type of messages and of references out.
    let kind = match (&item.kind, item.role) {
        (Some(kind), _) => kind.clone(),
        (None, Some(_)) => "message".to_owned(),
        (None, None) => "item_reference".to_owned(),
    };
    let id = item.id.filter(|id| !id.is_empty());
    let item = match kind.as_str() {
        "message" => {
            let role = required(path, "role", item.role)?;
            message(&format!("{path}.content"), role, required(path, "content", item.content)?, images)?
        }
        "reasoning" => Item::Reasoning { text: thoughts(path, item.content, item.summary)? },
        "function_call" => Item::Call {
            call: ToolCall {
                id: required(path, "call_id", item.call_id)?,
                name: required(path, "name", item.name)?,
                arguments: item.arguments.unwrap_or_default(),
            },
        },
        "function_call_output" => Item::CallOutput {
            call_id: required(path, "call_id", item.call_id)?,
            output: texts(&format!("{path}.output"), required(path, "output", item.output)?)?.join("\n"),
        },
        "item_reference" => {
            let missing = || Failure::invalid(format!("{path}.id"), "item_not_found", "There is no such item, or it was not stored.");
            return ItemName::parse(&required(path, "id", id)?).map(Asked::Reference).ok_or_else(missing);
        }
        other => {
            let message =
                format!("Items of the type {other} are not taken here, but message, reasoning, function_call and function_call_output.");
            return Err(Failure::invalid(path, "unsupported_item", message));
        }
    };
    Ok(Asked::Item(InputItem { id, item }))
}

fn required<T>(path: &str, name: &str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::invalid(format!("{path}.{name}"), None, format!("This item has no {name}.")))
}

fn message(path: &str, role: Role, content: TextOr<Part>, images: &mut Images) -> Result<Item, Failure> {
    let parts = match content {
        TextOr::Text(text) => return Ok(Item::says(role, vec![text])),
        TextOr::List(parts) => parts,
    };
    let (mut texts, mut placed) = (Vec::with_capacity(parts.len()), Vec::new());
    for (at, part) in parts.into_iter().enumerate() {
        let path = format!("{path}[{at}]");
        match part.kind.as_str() {
            "input_image" if role == Role::User => {
                let image = images.of_input(&path, part.image_url, part.detail)?;
                placed.push(PlacedImage { after: texts.len(), image });
            }
            _ => texts.push(part.text(&path)?),
        }
    }
    Ok(Item::Message { role, texts, images: placed })
}

fn texts(path: &str, content: TextOr<Part>) -> Result<Vec<String>, Failure> {
    let parts = match content {
        TextOr::Text(text) => return Ok(vec![text]),
        TextOr::List(parts) => parts,
    };
    parts.into_iter().enumerate().map(|(at, part)| part.text(&format!("{path}[{at}]"))).collect()
}

/// What a model thought, in its own words or, where a client has nothing else, in those of a summary.
fn thoughts(path: &str, content: Option<TextOr<Part>>, summary: Option<Vec<Part>>) -> Result<String, Failure> {
    let (path, parts) = match (content, summary) {
        (Some(content), _) => (format!("{path}.content"), content),
        (None, summary) => (format!("{path}.summary"), TextOr::List(summary.unwrap_or_default())),
    };
    Ok(texts(&path, parts)?.join("\n"))
}

impl Part {
    fn text(self, path: &str) -> Result<String, Failure> {
        match (self.kind.as_str(), self.text, self.refusal) {
            ("input_text" | "output_text" | "text" | "reasoning_text" | "summary_text", Some(text), _) | ("refusal", _, Some(text)) => {
                Ok(text)
            }
            ("input_image", ..) => Err(images::misplaced(path)),
            ("input_file" | "input_audio", ..) => {
                let message = format!("This model takes no parts of the type {}.", self.kind);
                Err(Failure::invalid(path, images::UNSUPPORTED, message))
            }
            _ => Err(Failure::invalid(path, None, "A part has a type (input_text, output_text, …) and what belongs to it.")),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOr<T>, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<TextOr<T>, E> {
                Ok(TextOr::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TextOr<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(TextOr::List(all))
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::{TextOr, WireItem, first_image, input};
    use crate::images::tests::png;
    use contract::ids::ResponseId;
    use inference::{Detail, ToolCall};
    use serde_json::{Value, json};
    use services::responses::{Asked, InputItem, Item, ItemName, Role};
    use uuid::Uuid;

    fn read(value: Value) -> Result<Vec<Asked>, String> {
        let read: TextOr<WireItem> = serde_json::from_value(value).map_err(|error| error.to_string())?;
        input(read).map_err(|failure| failure.event())
    }

    fn items(value: Value) -> Vec<Item> {
        let item = |asked| match asked {
            Asked::Item(InputItem { item, .. }) => item,
            Asked::Reference(name) => panic!("a reference: {name:?}"),
        };
        read(value).unwrap().into_iter().map(item).collect()
    }

    fn says(role: Role, texts: &[&str]) -> Item {
        Item::says(role, texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_text_is_a_question() {
        assert_eq!(items(json!("hi")), [says(Role::User, &["hi"])]);
    }

    #[test]
    fn messages_come_with_and_without_a_type() {
        let read = items(json!([
            { "role": "developer", "content": "Be brief." },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "a" }, { "type": "input_text", "text": "b" }] },
            { "type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
              "content": [{ "type": "output_text", "text": "c", "annotations": [], "logprobs": [] }] },
        ]));
        assert_eq!(read, [says(Role::Developer, &["Be brief."]), says(Role::User, &["a", "b"]), says(Role::Assistant, &["c"])]);
    }

    #[test]
    fn pictures_keep_their_place_among_texts() {
        let url = format!("data:image/png;base64,{}", png(8));
        let image = json!({ "type": "input_image", "image_url": url, "detail": "high" });
        let text = |text: &str| json!({ "type": "input_text", "text": text });
        let asked = json!([{ "role": "user", "content": "x" }, { "role": "user", "content": [text("a"), image, text("b"), image] }]);
        let read = read(asked).unwrap();
        let Asked::Item(InputItem { item: Item::Message { texts, images, .. }, .. }) = &read[1] else { panic!("{read:?}") };
        assert_eq!(texts, &["a", "b"]);
        let placed: Vec<_> = images.iter().map(|placed| (placed.after, placed.image.data.as_str(), placed.image.detail)).collect();
        assert_eq!(placed, [(1, png(8).as_str(), Some(Detail::High)), (2, png(8).as_str(), Some(Detail::High))]);
        assert_eq!(first_image(&read).as_deref(), Some("input[1].content[1]"));
    }

    #[test]
    fn calls_results_and_thoughts_come_through() {
        let read = items(json!([
            { "type": "reasoning", "id": "rs_1", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }], "encrypted_content": null },
            { "type": "reasoning", "id": "rs_2", "summary": [{ "type": "summary_text", "text": "in short" }] },
            { "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}", "status": "completed" },
            { "type": "function_call_output", "call_id": "call_1", "output": "42" },
            { "type": "function_call_output", "call_id": "call_1", "output": [{ "type": "input_text", "text": "43" }] },
        ]));
        let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() };
        let output = |output: &str| Item::CallOutput { call_id: "call_1".into(), output: output.into() };
        let thought = |text: &str| Item::Reasoning { text: text.into() };
        assert_eq!(read, [thought("hm"), thought("in short"), Item::Call { call }, output("42"), output("43")]);
    }

    #[test]
    fn references_name_what_a_response_said() {
        let response = ResponseId(Uuid::now_v7());
        let id = says(Role::Assistant, &[]).id(response, 2);
        for item in [json!({ "type": "item_reference", "id": id }), json!({ "id": id })] {
            assert_eq!(read(json!([item])).unwrap(), [Asked::Reference(ItemName { response, at: 2 })]);
        }
        assert!(read(json!([{ "type": "item_reference", "id": "msg_of_openai" }])).unwrap_err().contains("input[0].id"));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_path() {
        let refused = |value: Value| read(json!([{ "role": "user", "content": "x" }, value])).unwrap_err();
        let image = refused(json!({ "role": "user", "content": [{ "type": "input_image", "image_url": "data:" }] }));
        assert!(image.contains("input[1].content[0].image_url") && image.contains("invalid_image_url"), "{image}");
        let stored = refused(json!({ "role": "user", "content": [{ "type": "input_image", "file_id": "file-1" }] }));
        assert!(stored.contains("input[1].content[0].image_url") && stored.contains("no files"), "{stored}");
        let image = json!([{ "type": "input_image", "image_url": format!("data:image/png;base64,{}", png(8)) }]);
        let answered = refused(json!({ "type": "function_call_output", "call_id": "1", "output": image }));
        assert!(answered.contains("input[1].output[0]") && answered.contains("unsupported_content"), "{answered}");
        let said = refused(json!({ "role": "assistant", "content": image }));
        assert!(said.contains("input[1].content[0]") && said.contains("unsupported_content"), "{said}");
        let file = refused(json!({ "role": "user", "content": [{ "type": "input_file", "file_id": "file-1" }] }));
        assert!(file.contains("input[1].content[0]") && file.contains("unsupported_content"), "{file}");
        assert!(refused(json!({ "role": "user" })).contains("input[1].content"));
        assert!(refused(json!({ "type": "function_call", "name": "f" })).contains("input[1].call_id"));
        let search = refused(json!({ "type": "web_search_call", "id": "ws_1" }));
        assert!(search.contains(r#""param":"input[1]""#) && search.contains("unsupported_item"), "{search}");
        assert!(read(json!(7)).unwrap_err().contains("a string or an array"));
    }
}
