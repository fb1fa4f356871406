//! Markdown events to HTML. Every tag is written here; foreign text only ever passes through
//! [`push_escaped`], [`safe_link`], the highlighter or the formula writer.

use super::{
    escape::{push_escaped, safe_link},
    highlight, math,
};
use pulldown_cmark::{Alignment, CodeBlockKind, Event, LinkType, Options, Tag, TagEnd};
use std::ops::Range;

/// Words within the HTML, in the reader's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The button above code.
    pub copy: &'static str,
    /// What stands for an image, before its description.
    pub image: &'static str,
}

/// The dialect: CommonMark, tables, strikethrough, task lists and formulas.
#[must_use]
pub fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS | Options::ENABLE_MATH
}

/// Headings of an answer begin below the page's own first two levels.
const HEADING_SHIFT: usize = 2;

/// Writes the events of one top-level block.
pub struct Renderer<'a> {
    out: String,
    labels: Labels,
    /// The text as it was before formulas were rewritten; code is taken from here.
    original: &'a str,
    /// Info string and text of the code block that is being read.
    code: Option<(String, String)>,
    alignments: Vec<Alignment>,
    cell: usize,
    in_head: bool,
    /// For each open link: whether a tag was written for it.
    links: Vec<bool>,
}

impl<'a> Renderer<'a> {
    /// `original` is the text that the events' ranges refer to.
    #[must_use]
    pub fn new(original: &'a str, labels: Labels) -> Self {
        Self { out: String::new(), labels, original, code: None, alignments: Vec::new(), cell: 0, in_head: false, links: Vec::new() }
    }

    /// Takes the HTML written so far.
    #[must_use]
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Writes one event; `range` is its place in the text.
    pub fn event(&mut self, event: Event<'_>, range: &Range<usize>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text, range),
            Event::Code(code) => self.inline_code(&code, range),
            Event::InlineMath(latex) => math::push_math(&mut self.out, &latex, false),
            Event::DisplayMath(latex) => math::push_math(&mut self.out, &latex, true),
            // Raw HTML is shown, never obeyed.
            Event::Html(html) | Event::InlineHtml(html) => push_escaped(&mut self.out, &html),
            Event::SoftBreak => self.out.push('\n'),
            Event::HardBreak => self.out.push_str("<br>"),
            Event::Rule => self.out.push_str("<hr>"),
            Event::TaskListMarker(done) => {
                // Not a form control: nobody can change it, and a screen reader reads the sign.
                self.out.push_str(if done {
                    "<span class=\"md-task\">\u{2611}</span> "
                } else {
                    "<span class=\"md-task\">\u{2610}</span> "
                });
            }
            Event::FootnoteReference(name) => push_escaped(&mut self.out, &name),
        }
    }

    fn text(&mut self, text: &str, range: &Range<usize>) {
        let Some((_, code)) = &mut self.code else {
            push_escaped(&mut self.out, text);
            return;
        };
        // Where a formula was wrongly seen in code, the original is as long and has the right bytes.
        match self.original.get(range.clone()) {
            Some(original) if original.len() == text.len() => code.push_str(original),
            _ => code.push_str(text),
        }
    }

    fn inline_code(&mut self, code: &str, range: &Range<usize>) {
        self.out.push_str("<code>");
        let original = self.original.get(range.clone()).map(|source| source.trim_matches('`'));
        match original {
            Some(original) if original.len() == code.len() && !original.contains('\n') => push_escaped(&mut self.out, original),
            _ => push_escaped(&mut self.out, code),
        }
        self.out.push_str("</code>");
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph => self.out.push_str("<p>"),
            Tag::Heading { level, .. } => self.heading("<", level as usize),
            Tag::BlockQuote(_) => self.out.push_str("<blockquote>"),
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((info, String::new()));
            }
            Tag::HtmlBlock => self.out.push_str("<p class=\"md-html\">"),
            Tag::List(None) => self.out.push_str("<ul>"),
            Tag::List(Some(1)) => self.out.push_str("<ol>"),
            Tag::List(Some(first)) => self.out.push_str(&format!("<ol start=\"{first}\">")),
            Tag::Item => self.out.push_str("<li>"),
            Tag::Table(alignments) => {
                self.alignments = alignments;
                self.out.push_str("<div class=\"md-table\" tabindex=\"0\"><table>");
            }
            Tag::TableHead => {
                (self.in_head, self.cell) = (true, 0);
                self.out.push_str("<thead><tr>");
            }
            Tag::TableRow => {
                self.cell = 0;
                self.out.push_str("<tr>");
            }
            Tag::TableCell => self.cell(),
            Tag::Emphasis => self.out.push_str("<em>"),
            Tag::Strong => self.out.push_str("<strong>"),
            Tag::Strikethrough => self.out.push_str("<del>"),
            Tag::Link { link_type, dest_url, .. } => self.link(link_type, &dest_url, false),
            Tag::Image { link_type, dest_url, .. } => self.link(link_type, &dest_url, true),
            // Extensions that `options` leaves off.
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.out.push_str("</p>"),
            TagEnd::Heading(level) => self.heading("</", level as usize),
            TagEnd::BlockQuote(_) => self.out.push_str("</blockquote>"),
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::List(ordered) => self.out.push_str(if ordered { "</ol>" } else { "</ul>" }),
            TagEnd::Item => self.out.push_str("</li>"),
            TagEnd::Table => self.out.push_str("</tbody></table></div>"),
            TagEnd::TableHead => {
                self.in_head = false;
                self.out.push_str("</tr></thead><tbody>");
            }
            TagEnd::TableRow => self.out.push_str("</tr>"),
            TagEnd::TableCell => self.out.push_str(if self.in_head { "</th>" } else { "</td>" }),
            TagEnd::Emphasis => self.out.push_str("</em>"),
            TagEnd::Strong => self.out.push_str("</strong>"),
            TagEnd::Strikethrough => self.out.push_str("</del>"),
            TagEnd::Link | TagEnd::Image => {
                if self.links.pop() == Some(true) {
                    self.out.push_str("</a>");
                }
            }
            TagEnd::FootnoteDefinition
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::MetadataBlock(_) => {}
        }
    }

    fn heading(&mut self, open: &str, level: usize) {
        self.out.push_str(&format!("{open}h{}>", (level + HEADING_SHIFT).min(6)));
    }

    fn cell(&mut self) {
        let align = match self.alignments.get(self.cell) {
            Some(Alignment::Right) => " class=\"md-right\"",
            Some(Alignment::Center) => " class=\"md-center\"",
            _ => "",
        };
        self.cell += 1;
        self.out.push_str(if self.in_head { "<th scope=\"col\"" } else { "<td" });
        self.out.push_str(align);
        self.out.push('>');
    }

    /// A link, or what an image becomes: nothing is loaded from elsewhere just because an answer says so.
    fn link(&mut self, kind: LinkType, url: &str, image: bool) {
        let mail;
        let url = if kind == LinkType::Email && !url.contains(':') {
            mail = format!("mailto:{url}");
            &mail
        } else {
            url
        };
        let nested = self.links.contains(&true);
        let target = safe_link(url).filter(|_| !nested);
        if let Some(target) = target {
            self.out.push_str("<a href=\"");
            push_escaped(&mut self.out, target);
            self.out.push_str("\" target=\"_blank\" rel=\"noopener noreferrer\">");
        }
        if image {
            push_escaped(&mut self.out, self.labels.image);
            self.out.push_str(": ");
        }
        self.links.push(target.is_some());
    }

    fn code_block(&mut self) {
        let Some((info, code)) = self.code.take() else { return };
        let label = highlight::label(&info);
        self.out.push_str("<div class=\"md-code\"><div class=\"md-code-bar\"><span>");
        push_escaped(&mut self.out, &label);
        self.out.push_str("</span><button type=\"button\" data-md-copy>");
        push_escaped(&mut self.out, self.labels.copy);
        self.out.push_str("</button></div><pre tabindex=\"0\"><code>");
        highlight::push_highlighted(&mut self.out, &info, &code);
        self.out.push_str("</code></pre></div>");
    }
}
