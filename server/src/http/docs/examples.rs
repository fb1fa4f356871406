//! How an operation is called, for those who have no client for it.

use super::html::escape;
use serde_json::Value;

const BASE: &str = "https://kontor.example.org";

/// curl and Python, as HTML.
pub fn examples(method: &str, path: &str, operation: &Value) -> String {
    let body = &operation["requestBody"]["content"]["application/json"]["example"];
    let body = body.is_object().then(|| serde_json::to_string_pretty(body).unwrap_or_default());
    let plain = operation["security"][0].get("x-api-key").is_some();
    let shown = |name: &str, text: &str| format!("<h4>{name}</h4><pre tabindex=\"0\"><code>{}</code></pre>", escape(text));
    let curl = curl(&method.to_uppercase(), path, body.as_deref(), plain);
    let is_json = operation["responses"]["200"]["content"]["application/json"].is_object();
    let python = python(&method.to_uppercase(), path, body.as_deref(), plain, is_json);
    format!("<details><summary>Examples</summary>{}{}</details>", shown("curl", &curl), shown("Python", &python))
}

fn curl(method: &str, path: &str, body: Option<&str>, plain: bool) -> String {
    let key = if plain { "x-api-key: $KONTOR_KEY" } else { "Authorization: Bearer $KONTOR_KEY" };
    let verb = if matches!((method, body), ("GET", _) | ("POST", Some(_))) { String::new() } else { format!("-X {method} ") };
    let mut text = format!("curl {verb}'{BASE}{path}' \\\n  -H \"{key}\"");
    if let Some(body) = body {
        // A shell ends a quoted text at the next quote.
        let quoted = body.replace('\'', r"'\''");
        text.push_str(&format!(" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{quoted}'"));
    }
    text
}

fn python(method: &str, path: &str, body: Option<&str>, plain: bool, is_json: bool) -> String {
    let (modules, answer) = if is_json { ("json, os", "json.load(answer)") } else { ("os", "answer.read().decode()") };
    let key = if plain { r#""x-api-key": os.environ["KONTOR_KEY"]"# } else { r#""Authorization": "Bearer " + os.environ["KONTOR_KEY"]"# };
    let data = body.map(|body| format!("    data=r'''{body}'''.encode(),\n")).unwrap_or_default();
    format!(
        "import {modules}, urllib.request\n\nrequest = urllib.request.Request(\n    \"{BASE}{path}\",\n    method=\"{method}\",\n    \
         headers={{{key}, \"Content-Type\": \"application/json\"}},\n{data})\nwith urllib.request.urlopen(request) as answer:\n    \
         print({answer})"
    )
}

#[cfg(test)]
mod tests {
    use super::examples;
    use serde_json::json;

    #[test]
    fn examples_send_the_key_as_the_clients_do() {
        let body = json!({ "content": { "application/json": { "example": { "text": "it's" } } } });
        let with = |scheme: &str| examples("post", "/v1/x", &json!({ "security": [{ scheme: [] }], "requestBody": body }));
        let bearer = with("bearer");
        assert!(bearer.contains("Authorization: Bearer $KONTOR_KEY") && bearer.contains("it&#39;\\&#39;&#39;s"), "{bearer}");
        assert!(with("x-api-key").contains("x-api-key: $KONTOR_KEY"));
        assert!(bearer.contains("print(answer.read().decode())"), "what is no JSON is shown as it is");
        let json = json!({ "200": { "content": { "application/json": {} } } });
        let told = examples("get", "/v1/x", &json!({ "security": [{ "bearer": [] }], "responses": json }));
        assert!(told.contains("import json, os") && told.contains("print(json.load(answer))"), "{told}");
        let deleted = examples("delete", "/v1/x/{id}", &json!({ "security": [{ "bearer": [] }] }));
        assert!(deleted.contains("curl -X DELETE") && !deleted.contains(" -d "), "{deleted}");
    }
}
