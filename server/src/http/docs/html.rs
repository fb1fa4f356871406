//! Texts in HTML.

/// A text that may stand anywhere in HTML, in quoted attributes too.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Sentences; what stands between backticks is code.
pub fn prose(text: &str) -> String {
    let part = |(at, part): (usize, &str)| if at % 2 == 1 { code(part) } else { escape(part) };
    text.split('`').enumerate().map(part).collect()
}

/// A name, or a value.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// A table of [`row`]s. It scrolls by itself where it is too wide, by keyboard too; on a phone its rows are paragraphs.
///
/// Its roles are told, because some browsers take a table that is shown as something else for no table.
pub fn table(label: &str, head: &[&str], rows: &str) -> String {
    let head: String = head.iter().map(|name| format!("<th scope=\"col\" role=\"columnheader\">{name}</th>")).collect();
    let label = escape(label);
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{label}\"><table role=\"table\">\
         <thead role=\"rowgroup\"><tr role=\"row\">{head}</tr></thead><tbody role=\"rowgroup\">{rows}</tbody></table></div>"
    )
}

/// A row: its name, then its other cells, each with the class of what it holds, all as HTML.
pub fn row(name: &str, cells: &[(&str, &str)]) -> String {
    let cell = |(class, inside): &(&str, &str)| format!("<td role=\"cell\" class=\"{class}\">{inside}</td>");
    let cells: String = cells.iter().map(cell).collect();
    format!("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">{name}</th>{cells}</tr>")
}

#[cfg(test)]
mod tests {
    use super::{escape, prose, row, table};

    #[test]
    fn nothing_becomes_markup() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(prose("With `a<b` and <i>."), "With <code>a&lt;b</code> and &lt;i&gt;.");
    }

    #[test]
    fn a_table_is_one_however_it_is_shown() {
        let html = table("Fields", &["Field", "Meaning"], &row("<code>id</code>", &[("meaning", "Its id.")]));
        for (element, role) in [
            ("<table", "table"),
            ("<thead", "rowgroup"),
            ("<tbody", "rowgroup"),
            ("<tr", "row"),
            ("<th scope=\"col\"", "columnheader"),
            ("<th scope=\"row\"", "rowheader"),
            ("<td", "cell"),
        ] {
            let (all, told) = (html.matches(element).count(), html.matches(&format!("{element} role=\"{role}\"")).count());
            assert!(all > 0 && all == told, "{element}: {told} of {all} in {html}");
        }
        assert!(html.contains("class=\"meaning\">Its id.</td>") && html.contains("aria-label=\"Fields\""), "{html}");
    }
}
