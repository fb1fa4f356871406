//! `/openapi.json` and `/docs`: the API's description, for programs and for people.

use crate::app::TestApp;
use axum::http::StatusCode;
use serde_json::Value;
use server::http::PLAIN_ROUTES;
use std::{collections::BTreeSet, fs, path::Path};

#[tokio::test]
async fn the_document_describes_all_routes_of_the_router() {
    let app = TestApp::start().await;
    let answer = app.get(None, "/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    let document: Value = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let listed: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let api = gateway::ROUTES.iter().map(|(_, path, _)| path.replace("{*", "{"));
    let functions = server_fn::axum::server_fn_paths().map(|(path, _)| path.to_owned());
    let plain = PLAIN_ROUTES.iter().map(|(_, path, _)| (*path).to_owned()).filter(|path| gateway::is_function(path));
    let mut there: BTreeSet<String> = api.chain(functions).chain(plain).collect();
    for path in gateway::PEOPLE_ONLY {
        assert!(there.remove(*path), "{path} is not there any more");
    }
    assert_eq!(
        listed, there,
        "If you are here because this failed: say in crates/gateway/src/openapi/functions.rs what the new function takes and answers, \
         or put it into PEOPLE_ONLY."
    );
}

/// A schema in one line.
fn word(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    for field in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[field].as_array() {
            return parts.iter().map(word).collect::<Vec<_>>().join(" | ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(fields) = schema["properties"].as_object() {
        let fields: BTreeSet<String> =
            fields.iter().map(|(name, field)| format!("{name}{}: {}", mark(schema, name), word(field))).collect();
        return format!("{{ {} }}", fields.into_iter().collect::<Vec<_>>().join(", "));
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str).map(|kind| plain(kind, schema));
            kinds.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" | ")
        }
        kind => plain(kind.as_str().unwrap_or("anything"), schema),
    }
}

fn plain(kind: &str, schema: &Value) -> String {
    if kind == "array" { format!("[{}]", word(&schema["items"])) } else { kind.to_owned() }
}

/// What may be left out has one.
fn mark(schema: &Value, name: &str) -> &'static str {
    let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    if required { "" } else { "?" }
}

/// Names of schemas, with those that they refer to.
fn gather(value: &Value, document: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next())
                && names.insert(name.to_owned())
            {
                gather(&document["components"]["schemas"][name], document, names);
            }
            fields.values().for_each(|value| gather(value, document, names));
        }
        Value::Array(values) => values.iter().for_each(|value| gather(value, document, names)),
        _ => {}
    }
}

/// Names, bodies, results and statuses of what the document has below `/ui`, without its words.
fn surface(document: &Value) -> String {
    let mut lines = vec![format!("version {}", gateway::FUNCTIONS_VERSION), String::new()];
    let mut names = BTreeSet::new();
    let paths: BTreeSet<&String> = document["paths"].as_object().expect("paths").keys().filter(|path| gateway::is_function(path)).collect();
    for path in paths {
        for (method, operation) in document["paths"][path].as_object().expect("operations") {
            gather(operation, document, &mut names);
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let asked: BTreeSet<&str> =
                operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
            let taken = if body.is_null() { format!("{asked:?}") } else { word(body) };
            let answers = operation["responses"]["200"]["content"].as_object().expect("contents").iter();
            let answers: BTreeSet<String> = answers.map(|(kind, content)| format!("{} ({kind})", word(&content["schema"]))).collect();
            let statuses: BTreeSet<&String> = operation["responses"].as_object().expect("responses").keys().collect();
            let statuses = statuses.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let scope = operation["security"][0]["bearer"][0].as_str().unwrap_or_default();
            let answers = answers.into_iter().collect::<Vec<_>>().join(", ");
            lines.push(format!("{} {path} [{scope}]: {taken} -> {answers}; {statuses}", method.to_uppercase()));
        }
    }
    lines.push(String::new());
    lines.extend(names.iter().map(|name| format!("{name}: {}", word(&document["components"]["schemas"][name]))));
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn names_and_shapes_below_ui_change_with_their_version_only() {
    let app = TestApp::start().await;
    let now = surface(&app.get(None, "/openapi.json").await.json());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/gateway/src/openapi/functions.txt");
    let promised = fs::read_to_string(&kept).expect("the promised surface");
    if now != promised {
        let found = Path::new(env!("CARGO_TARGET_TMPDIR")).join("functions.txt");
        fs::write(&found, &now).expect("writing what was found");
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (new, old) = (lines(&now), lines(&promised));
        panic!(
            "new: {:#?}\ngone: {:#?}\nIf you are here because this failed: programs rely on these names and shapes. Put what is new into \
             {} (it lies in {}); if anything is gone or different, raise FUNCTIONS_VERSION and say in docs/INTEGRATE.md, \
             in the list of changes, what programs must do.",
            new.difference(&old).collect::<Vec<_>>(),
            old.difference(&new).collect::<Vec<_>>(),
            kept.display(),
            found.display()
        );
    }
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/INTEGRATE.md")).expect("the guide");
    assert!(guide.contains(&format!("| {} |", gateway::FUNCTIONS_VERSION)), "docs/INTEGRATE.md says what this version changed");
}

#[tokio::test]
async fn the_page_shows_every_operation_and_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let document: Value = app.get(None, "/openapi.json").await.json();
    let page = app.get(None, "/docs").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    let html = page.text();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(html.contains(&format!("<article id=\"{id}\">")) && html.contains(&format!("href=\"#{id}\"")), "{id}");
            let scope = operation["security"][0].as_object().and_then(|key| key.values().next()).expect("a way to send the key");
            let scope = scope[0].as_str().expect("a scope");
            assert!(html.contains(&format!(", scope <code>{scope}</code>")), "{id} says which scope it needs");
        }
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(html.contains(&format!("<article id=\"schema-{name}\">")), "{name}");
    }
    assert!(!html.contains("<script") && !html.contains("<style") && !html.contains(" style="), "the policy allows none of it");
    for address in html.split("href=\"").skip(1).chain(html.split("src=\"").skip(1)) {
        assert!(address.starts_with('/') || address.starts_with('#'), "{}", address.split('"').next().unwrap_or_default());
    }
    // What is linked to within the page is there.
    for target in html.split("href=\"#").chain(html.split("href=\"/docs#")).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id) {
        let anchor = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(!anchor || html.contains(&format!("id=\"{target}\"")), "#{target} leads nowhere");
    }
    let style = app.get(None, "/docs/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
    let css = style.text();
    assert!(css.contains("--k-canvas:") && css.contains("prefers-color-scheme: dark"), "the product's themes");
    assert!(!css.contains("url(") && !css.contains("@import"), "nothing from elsewhere");
}

#[tokio::test]
async fn the_search_shows_what_fits_and_makes_no_markup() {
    let app = TestApp::start().await;
    let html = app.get(None, "/docs?q=rerank%20query").await.text();
    assert!(html.contains("id=\"createRerank\"") && !html.contains("id=\"createResponse\""));
    let html = app.get(None, "/docs?q=%22%3E%3Cscript%3E").await.text();
    assert!(html.contains("value=\"&quot;&gt;&lt;script&gt;\"") && !html.contains("<script"));
    assert!(html.contains("Nothing holds all of these words."));
    assert_eq!(app.get(None, "/docs?q=%ff&q=2").await.status, StatusCode::OK);
}
