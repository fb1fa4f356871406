//! A text that grows, as top-level blocks of HTML.
//!
//! While an answer streams in, only what may still change is parsed again: the last block, and the
//! one before it as long as the new one consists of an unfinished line. Settled blocks keep their
//! HTML, so their part of the page is not touched.

use super::{
    delimiters::normalise,
    render::{Labels, Renderer, options},
};
use pulldown_cmark::{BrokenLink, CowStr, Event, LinkType, Parser, Tag};
use std::{cell::Cell, collections::BTreeMap, ops::Range, sync::Arc};

/// Link reference definitions (`[name]: https://…`): name → address. They count for the whole text.
type References = BTreeMap<String, String>;

/// One top-level block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Where it is in the text; it ends where the next one begins. Definitions before it belong to it.
    pub source: Range<usize>,
    /// Where its first line begins.
    first_line: usize,
    /// Safe HTML.
    pub html: Arc<str>,
    /// It has brackets that a reference definition elsewhere turns into a link.
    open_reference: bool,
}

/// The blocks of a text; see the module's description.
#[derive(Clone, Debug)]
pub struct Blocks {
    labels: Labels,
    text: String,
    blocks: Vec<Block>,
    /// How many blocks, from the first, can no longer change.
    settled: usize,
    settled_references: References,
    references: References,
}

impl Blocks {
    /// No text yet.
    #[must_use]
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            text: String::new(),
            blocks: Vec::new(),
            settled: 0,
            settled_references: References::new(),
            references: References::new(),
        }
    }

    /// The blocks of the whole text.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Takes the text as it is now. Cheap if it only grew; any other text starts over.
    pub fn update(&mut self, text: &str) {
        if text == self.text {
            return;
        }
        if !text.starts_with(&self.text) {
            *self = Self::new(self.labels);
        }
        self.text.push_str(&text[self.text.len()..]);
        let start = self.blocks.get(self.settled).map_or(self.settled_end(), |block| block.source.start);
        let tail = parse(&self.text, start, &self.settled_references, self.labels);
        self.blocks.truncate(self.settled);
        self.blocks.extend(tail.blocks);
        self.settle(start, tail.limit, &tail.references);
        let mut references = self.settled_references.clone();
        for (name, (url, _)) in tail.references {
            references.entry(name).or_insert(url);
        }
        if references != self.references {
            self.references = references;
            self.resolve();
        }
    }

    fn settled_end(&self) -> usize {
        self.settled.checked_sub(1).and_then(|last| self.blocks.get(last)).map_or(0, |block| block.source.end)
    }

    /// A block is settled when another begins after it in a line that is complete. Right after a
    /// definition the parser still sees a paragraph, so that is no place to begin again.
    fn settle(&mut self, start: usize, limit: usize, references: &BTreeMap<String, (String, Range<usize>)>) {
        let last_line = self.text.rfind('\n').unwrap_or(0);
        let mut next = self.settled + 1;
        while let Some(block) = self.blocks.get(next).filter(|block| block.first_line < last_line && block.first_line <= limit) {
            let before = self.text[..block.first_line].trim_end().len();
            if !references.values().any(|(_, span)| span.contains(&before.saturating_sub(1))) {
                self.settled = next;
            }
            next += 1;
        }
        let end = self.blocks.get(self.settled).map_or(start, |block| block.source.start);
        for (name, (url, span)) in references {
            if span.start < end {
                self.settled_references.entry(name.clone()).or_insert_with(|| url.clone());
            }
        }
    }

    /// Renders the blocks again whose brackets may mean something else now.
    fn resolve(&mut self) {
        for ix in 0..self.blocks.len() {
            if !self.blocks[ix].open_reference {
                continue;
            }
            let source = self.blocks[ix].source.clone();
            let part = parse(&self.text[..source.end], source.start, &self.references, self.labels);
            if let Some(block) = part.blocks.into_iter().next()
                && block.html != self.blocks[ix].html
            {
                self.blocks[ix].html = block.html;
            }
        }
    }
}

struct Parsed {
    blocks: Vec<Block>,
    /// Nothing that begins after this offset is certain: a formula is still open there.
    limit: usize,
    /// Definitions in the parsed part: name → address and place.
    references: BTreeMap<String, (String, Range<usize>)>,
}

/// Parses `text` from `start`, which is the start of a top-level block, to its end.
fn parse(text: &str, start: usize, known: &References, labels: Labels) -> Parsed {
    let tail = &text[start..];
    let normalised = normalise(tail);
    let open_reference = Cell::new(false);
    let resolve = |link: BrokenLink<'_>| {
        open_reference.set(true);
        known.get(&reference_name(&link.reference)).map(|url| (CowStr::from(url.clone()), CowStr::from("")))
    };
    let parser = Parser::new_with_broken_link_callback(&normalised.text, options(), Some(resolve));
    let references = parser
        .reference_definitions()
        .iter()
        .map(|(name, def)| (reference_name(name), (def.dest.to_string(), start + def.span.start..start + def.span.end)))
        .collect();
    let mut renderer = Renderer::new(tail, labels);
    let mut end = 0;
    let mut blocks: Vec<Block> = Vec::new();
    let mut depth = 0_usize;
    for (event, range) in parser.into_offset_iter() {
        if depth == 0 {
            let first_line = start + line_start(tail, range.start);
            let begin = if blocks.is_empty() { start } else { (start + next_line(tail, end)).min(first_line) };
            if let Some(last) = blocks.last_mut() {
                last.source.end = begin;
            }
            blocks.push(Block { source: begin..text.len(), first_line, html: "".into(), open_reference: false });
        }
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        let event = resolved(event, known, &open_reference);
        renderer.event(event, &range);
        end = range.end;
        if depth == 0
            && let Some(last) = blocks.last_mut()
        {
            last.html = renderer.take().into();
            last.open_reference = open_reference.replace(false);
        }
    }
    Parsed { blocks, limit: normalised.open.map_or(usize::MAX, |at| start + at), references }
}

/// A definition that came earlier wins over one in the part just parsed.
fn resolved<'a>(event: Event<'a>, known: &References, open_reference: &Cell<bool>) -> Event<'a> {
    let Event::Start(Tag::Link { link_type, dest_url, title, id }) = event else {
        return event;
    };
    if !matches!(link_type, LinkType::Reference | LinkType::Collapsed | LinkType::Shortcut) {
        return Event::Start(Tag::Link { link_type, dest_url, title, id });
    }
    open_reference.set(true);
    let dest_url = known.get(&reference_name(&id)).map_or(dest_url, |url| CowStr::from(url.clone()));
    Event::Start(Tag::Link { link_type, dest_url, title, id })
}

/// Where the line after `at` begins, or `at` if a line begins there.
fn next_line(text: &str, at: usize) -> usize {
    if at == 0 || text[..at].ends_with('\n') {
        return at;
    }
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}

/// A block's first line belongs to it from its first column: indentation has a meaning.
fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Names are compared without case and with single spaces.
fn reference_name(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
