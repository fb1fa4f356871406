//! `POST /v1/embeddings`.

use crate::{
    Gateway,
    body::Call,
    failure::Failure,
    headers,
    inputs::Inputs,
    known::Known,
    openapi::Described,
    usage::{Cost, InputUsage},
    wish::Unmet,
};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use inference::{EmbedInput, MOST_INPUTS, VectorRequest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

type Texts = Inputs<MOST_INPUTS>;

#[derive(Debug, Deserialize, ToSchema)]
pub struct EmbeddingsRequest {
    model: String,
    /// A text, texts, or as the model's own token ids one text or several. At most 2048 inputs and 300,000 tokens.
    #[schema(schema_with = crate::inputs::schema)]
    input: Texts,
    encoding_format: Option<Encoding>,
    dimensions: Option<usize>,
    #[serde(rename = "user")]
    #[schema(schema_with = crate::known::schema)]
    _user: Option<Known>,
}

impl Unmet for EmbeddingsRequest {}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EmbeddingEncoding)]
enum Encoding {
    Float,
    /// Little-endian f32. What OpenAI's Python client asks for when its caller says nothing.
    Base64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EmbeddingsAnswer)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: InputUsage,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EmbeddingEntry)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Embedding {
    Numbers(Vec<f32>),
    Text(String),
}

impl Embedding {
    fn of(vector: Vec<f32>, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Float => Self::Numbers(vector),
            Encoding::Base64 => Self::Text(STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())),
        }
    }
}

/// For the API's description.
pub fn described(operation: Described) -> Described {
    let asked = json!({ "model": "multilingual-e5-small", "input": ["query: Where is the town hall?"] });
    operation
        .named("createEmbedding", "Vectors of texts", "Normalised, so that the scalar product is the cosine.")
        .reads::<EmbeddingsRequest>(asked)
        .answers::<List<'_>>("A vector for each text.")
        .names_its_use()
}

pub async fn create(State(gateway): State<Gateway>, call: Call<EmbeddingsRequest>) -> Result<Response, Failure> {
    let Call { actor, input, ignored, cache } = call;
    let wanted = VectorRequest { model: Some(input.model), dimensions: input.dimensions, cache, ..VectorRequest::default() };
    let inputs = input.input.0.into_iter().map(EmbedInput::from).collect();
    let made = gateway.services.api.embed(&actor, inputs, wanted).await.map_err(|error| Failure::of(error, actor.request()))?;
    let encoding = input.encoding_format.unwrap_or(Encoding::Float);
    let entry = |(index, vector)| Entry { object: "embedding", index, embedding: Embedding::of(vector, encoding) };
    let data = made.vectors.into_iter().enumerate().map(entry).collect();
    let usage = InputUsage::of(&made.stats, Cost::of(made.route.as_ref().and_then(|route| route.cost)));
    let mut response = Json(List { object: "list", data, model: &made.stats.model, usage }).into_response();
    headers::name_use(response.headers_mut(), &made.asked, &made.usage.0.simple().to_string(), made.route.as_ref());
    ignored.put(response.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{Embedding, Encoding};
    use base64::{Engine, engine::general_purpose::STANDARD};

    #[test]
    fn base64_is_little_endian() {
        let Embedding::Text(text) = Embedding::of(vec![1.0, -2.5], Encoding::Base64) else { panic!("numbers") };
        assert_eq!(STANDARD.decode(text).unwrap(), [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
    }
}
