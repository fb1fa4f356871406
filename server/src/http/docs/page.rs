//! The page. Every operation and every schema has an address of its own: `/docs#createResponse`, `/docs#schema-Error`.

use super::{
    examples::examples,
    html::{code, escape, prose, row, table},
    schema::{shape, words},
};
use serde_json::Value;

/// An operation with its address.
#[derive(Clone, Copy)]
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    says: &'a Value,
}

/// What holds all words of `query`, of everything that the document describes; all of it for an empty one.
pub fn render(document: &Value, query: &str) -> String {
    let wanted: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let operations: Vec<Operation<'_>> = operations(document).into_iter().filter(|operation| operation.fits(&wanted)).collect();
    let schemas: Vec<(&str, &Value)> = fields(&document["components"]["schemas"])
        .filter(|(name, _)| wanted.iter().all(|word| name.to_lowercase().contains(word.as_str())))
        .collect();
    let none = if operations.is_empty() && schemas.is_empty() { "<p role=\"status\">Nothing holds all of these words.</p>" } else { "" };
    let title = document["info"]["title"].as_str().unwrap_or_default();
    format!(
        "<!DOCTYPE html><html lang=\"en\" data-theme=\"system\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}: API</title>\
         <link rel=\"icon\" href=\"/favicon.svg\"><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body>\
         <a class=\"skip\" href=\"#operations\">Skip to the operations</a>{}<div class=\"columns\">{}<main id=\"operations\">{none}{}{}</main></div>\
         </body></html>",
        header(document, query),
        contents(document, &operations, &schemas),
        sections(document, &operations),
        named_schemas(&schemas),
    )
}

fn header(document: &Value, query: &str) -> String {
    let text = |field: &str| document["info"][field].as_str().unwrap_or_default();
    let (title, version, about, query) = (escape(text("title")), escape(text("version")), prose(text("description")), escape(query));
    let all = if query.is_empty() { "" } else { " <a href=\"/docs\">Show all</a>" };
    format!(
        "<header><h1>{title} <small>API {version}</small></h1><p>{about}</p>\
         <p>For programs: <a href=\"/openapi.json\">/openapi.json</a> (OpenAPI 3.1)</p>\
         <form role=\"search\" action=\"/docs\" method=\"get\"><label for=\"q\">Search operations and schemas</label>\
         <input id=\"q\" name=\"q\" type=\"search\" value=\"{query}\"> <button>Search</button>{all}</form></header>"
    )
}

fn contents(document: &Value, operations: &[Operation<'_>], schemas: &[(&str, &Value)]) -> String {
    let groups: String = tags(document)
        .map(|(tag, _)| {
            let links: String = operations.iter().filter(|operation| operation.belongs_to(tag)).map(Operation::link).collect();
            if links.is_empty() { links } else { format!("<h2>{}</h2><ul>{links}</ul>", escape(tag)) }
        })
        .collect();
    let names: String = schemas.iter().map(|(name, _)| format!("<li><a href=\"#schema-{name}\">{name}</a></li>")).collect();
    let names = if names.is_empty() { names } else { format!("<details><summary>Schemas</summary><ul>{names}</ul></details>") };
    format!("<nav aria-label=\"Contents\">{groups}{names}</nav>")
}

fn sections(document: &Value, operations: &[Operation<'_>]) -> String {
    let section = |(tag, text): (&str, &str)| {
        let inside: String = operations.iter().filter(|operation| operation.belongs_to(tag)).map(Operation::article).collect();
        if inside.is_empty() { inside } else { format!("<section><h2>{}</h2><p>{}</p>{inside}</section>", escape(tag), prose(text)) }
    };
    tags(document).map(section).collect()
}

fn named_schemas(schemas: &[(&str, &Value)]) -> String {
    let article = |(name, schema): &(&str, &Value)| {
        let text = prose(schema["description"].as_str().unwrap_or_default());
        format!("<article id=\"schema-{name}\"><h3>{name}</h3><p>{text}</p>{}</article>", shape(name, schema))
    };
    let inside: String = schemas.iter().map(article).collect();
    if inside.is_empty() { inside } else { format!("<section><h2>Schemas</h2>{inside}</section>") }
}

impl<'a> Operation<'a> {
    fn text(&self, field: &str) -> &'a str {
        self.says[field].as_str().unwrap_or_default()
    }

    fn belongs_to(&self, tag: &str) -> bool {
        self.says["tags"].as_array().is_some_and(|tags| tags.iter().any(|one| one == tag))
    }

    fn fits(&self, wanted: &[String]) -> bool {
        let text = [self.method, self.path, self.text("operationId"), self.text("summary"), self.text("description")].join(" ");
        let text = format!("{text} {}", self.says["tags"]).to_lowercase();
        wanted.iter().all(|word| text.contains(word.as_str()))
    }

    fn link(&self) -> String {
        format!("<li><a href=\"#{}\">{}</a></li>", escape(self.text("operationId")), escape(self.text("summary")))
    }

    fn article(&self) -> String {
        let (id, summary, text) = (escape(self.text("operationId")), escape(self.text("summary")), prose(self.text("description")));
        format!(
            "<article id=\"{id}\"><h3><a href=\"#{id}\">{summary}</a></h3><p class=\"address\"><span>{}</span> {}</p><p>{text}</p>{}{}{}{}{}</article>",
            self.method.to_uppercase(),
            code(self.path),
            self.keys(),
            self.parameters(),
            self.body(),
            self.answers(),
            examples(self.method, self.path, self.says),
        )
    }

    fn keys(&self) -> String {
        let schemes = self.says["security"].as_array().into_iter().flatten().flat_map(fields);
        let names: Vec<String> = schemes.map(|(name, _)| code(if name == "bearer" { "Authorization: Bearer" } else { name })).collect();
        // Each way to send the key has the same scopes.
        let scopes = self.says["security"][0].as_object().and_then(|key| key.values().next());
        let scope = scopes.and_then(|scopes| scopes[0].as_str()).map(|scope| format!(", scope {}", code(scope))).unwrap_or_default();
        format!("<p>Key: {}{scope}</p>", names.join(" or "))
    }

    fn parameters(&self) -> String {
        let Some(parameters) = self.says["parameters"].as_array() else { return String::new() };
        let told = |parameter: &Value| {
            let text = |field: &str| parameter[field].as_str().unwrap_or_default();
            let needed = if parameter["required"] == true { "required" } else { "optional" };
            let (place, kind, meaning) = (escape(text("in")), words(&parameter["schema"]), prose(text("description")));
            row(&code(text("name")), &[("place", &place), ("type", &kind), (needed, needed), ("meaning", &meaning)])
        };
        let rows: String = parameters.iter().map(told).collect();
        let label = format!("Parameters of {}", self.text("operationId"));
        format!("<h4>Parameters</h4>{}", table(&label, &["Name", "In", "Type", "", "Meaning"], &rows))
    }

    fn body(&self) -> String {
        let schema = &self.says["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() { String::new() } else { format!("<h4>Body</h4><p>{} as JSON</p>", words(schema)) }
    }

    fn answers(&self) -> String {
        let told = |(status, answer): (&str, &Value)| {
            let kinds: Vec<String> =
                fields(&answer["content"]).map(|(kind, content)| format!("{}: {}", code(kind), words(&content["schema"]))).collect();
            let meaning = prose(answer["description"].as_str().unwrap_or_default());
            row(&escape(status), &[("type", &kinds.join("<br>")), ("meaning", &meaning)])
        };
        let rows: String = fields(&self.says["responses"]).map(told).collect();
        let label = format!("Answers of {}", self.text("operationId"));
        let answers = table(&label, &["Status", "Content", "Meaning"], &rows);
        let header = |(name, header): (&str, &Value)| {
            let meaning = prose(header["description"].as_str().unwrap_or_default());
            row(&code(name), &[("meaning", &meaning)])
        };
        let headers: String = fields(&self.says["responses"]["200"]["headers"]).map(header).collect();
        let label = format!("Headers of {}", self.text("operationId"));
        let headers = table(&label, &["Header", "Meaning"], &headers);
        let events = self.says["responses"]["200"]["content"]["text/event-stream"]["schema"]["description"].as_str();
        let events = events.map(|text| format!("<p>{}</p>", prose(text))).unwrap_or_default();
        format!("<h4>Answers</h4>{answers}{events}<details><summary>Headers of the answer</summary>{headers}</details>")
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let of_path = |(path, item)| fields(item).map(move |(method, says)| Operation { method, path, says });
    fields(&document["paths"]).flat_map(of_path).collect()
}

/// Names of the groups and what they stand for, in the document's order.
fn tags(document: &Value) -> impl Iterator<Item = (&str, &str)> {
    document["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tag| (tag["name"].as_str().unwrap_or_default(), tag["description"].as_str().unwrap_or_default()))
}

/// The fields of an object; none of anything else.
fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
