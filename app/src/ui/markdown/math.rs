//! LaTeX to MathML. The parser is a library; what reaches the page is written here, from lists of
//! allowed elements and attributes, so that a gap in the library's escaping is not a gap in ours.

use super::{
    delimiters::FILLER,
    escape::push_escaped,
    typesetter::{self, Typeset},
};
use pulldown_latex::{Parser, RenderConfig, Storage, config::DisplayMode, event::Event, mathml::push_mathml};

/// Longest formula that is typeset, in bytes; longer ones appear as source.
const MAX_BYTES: usize = 8 * 1024;
/// Deepest nesting of braces that is typeset.
const MAX_DEPTH: usize = 40;
/// Commands that define others: their expansion has no bound.
const REFUSED: [&str; 9] =
    ["\\def", "\\gdef", "\\edef", "\\xdef", "\\let", "\\futurelet", "\\newcommand", "\\renewcommand", "\\providecommand"];

/// Commands that read a number or a length; the library cuts it out byte by byte, which ends in a
/// panic where a character of several bytes follows.
const MEASURING: [&str; 16] = [
    "\\\\[",
    "\\char",
    "\\kern",
    "\\mkern",
    "\\hskip",
    "\\mskip",
    "\\hspace",
    "\\mspace",
    "\\above",
    "\\genfrac",
    "\\rule",
    "\\raise",
    "\\lower",
    "\\color",
    "\\begin{array}",
    "\\cfrac",
];

const ELEMENTS: &str = "math mi mn mo ms mtext mspace mrow mfrac msqrt mroot mstyle mpadded mphantom msub msup msubsup \
                          munder mover munderover mmultiscripts mprescripts mtable mtr mtd menclose semantics merror";
const ATTRIBUTES: &str = "display displaystyle scriptlevel mathvariant stretchy accent accentunder form fence separator lspace \
                          rspace minsize maxsize symmetric movablelimits largeop linethickness width height depth columnalign \
                          rowspacing notation class";

/// Marks formulas that appear as their source.
pub const SOURCE_CLASS: &str = "md-math-source";

/// Appends the formula as MathML, or as its source in `<code>` if it is not one that can be typeset (now).
pub fn push_math(out: &mut String, latex: &str, display: bool) {
    let latex = latex.trim_matches(|c: char| c == FILLER || c.is_whitespace());
    if let Typeset::Done(Some(mathml)) = typesetter::typeset(latex, display) {
        out.push_str(&mathml);
        return;
    }
    out.push_str("<code class=\"");
    out.push_str(SOURCE_CLASS);
    out.push_str(if display { " md-math-block\">" } else { "\">" });
    push_escaped(out, latex);
    out.push_str("</code>");
}

/// The formula as MathML; `None` if it is not one that can be typeset.
pub fn typeset(latex: &str, display: bool) -> Option<String> {
    let uses = |commands: &[&str]| commands.iter().any(|command| latex.contains(command));
    if latex.is_empty() || latex.len() > MAX_BYTES || depth(latex) > MAX_DEPTH || uses(&REFUSED) || (!latex.is_ascii() && uses(&MEASURING))
    {
        return None;
    }
    let storage = Storage::new();
    let events = Parser::new(latex, &storage).collect::<Result<Vec<Event<'_>>, _>>().ok()?;
    let config = RenderConfig { display_mode: if display { DisplayMode::Block } else { DisplayMode::Inline }, ..RenderConfig::default() };
    let mut raw = String::with_capacity(latex.len() * 8);
    push_mathml(&mut raw, events.into_iter().map(Ok::<_, std::convert::Infallible>), config).ok()?;
    rewritten(&raw)
}

/// How deep braces and environments nest, and how many commands follow each other without anything
/// between them (`\\sqrt\\sqrt…`): the library may recurse once for each.
fn depth(latex: &str) -> usize {
    let (mut depth, mut deepest, mut run) = (0_usize, 0, 0_usize);
    let mut in_command = false;
    for (ix, byte) in latex.bytes().enumerate() {
        let part_of_name = in_command && byte.is_ascii_alphabetic();
        in_command = byte == b'\\' || part_of_name;
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            b'\\' => {
                run += 1;
                if latex[ix..].starts_with("\\begin") {
                    depth += 1;
                } else if latex[ix..].starts_with("\\end") {
                    depth = depth.saturating_sub(1);
                }
            }
            b'^' | b'_' => run += 1,
            byte if part_of_name || byte.is_ascii_whitespace() => {}
            _ => run = 0,
        }
        deepest = deepest.max(depth).max(run);
    }
    deepest
}

/// Copies MathML tag by tag; `None` on anything that is not on the lists.
fn rewritten(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut open: Vec<&str> = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        // The library writes the operator "less than" as it is: `<mo><</mo>`.
        let Some(tag) = rest.strip_prefix('<').filter(|tag| tag.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic())) else {
            let skip = usize::from(rest.starts_with('<'));
            let end = rest[skip..].find('<').map_or(rest.len(), |at| at + skip);
            push_escaped(&mut out, &unescaped(&rest[..end]));
            rest = &rest[end..];
            continue;
        };
        if let Some(closing) = tag.strip_prefix('/') {
            let (name, after) = closing.split_once('>')?;
            if open.pop() != Some(name) {
                return None;
            }
            out.push_str("</");
            out.push_str(name);
            out.push('>');
            rest = after;
        } else {
            let (name, after) = name(tag)?;
            out.push('<');
            out.push_str(name);
            rest = attributes(&mut out, after)?;
            if let Some(after) = rest.strip_prefix("/>") {
                out.push_str("></");
                out.push_str(name);
                out.push('>');
                rest = after;
            } else {
                out.push('>');
                open.push(name);
                rest = rest.strip_prefix('>')?;
            }
        }
    }
    open.is_empty().then_some(out)
}

fn name(tag: &str) -> Option<(&str, &str)> {
    let end = tag.find(|c: char| !c.is_ascii_alphanumeric())?;
    ELEMENTS.split(' ').any(|element| element == &tag[..end]).then(|| tag.split_at(end))
}

/// Copies allowed attributes up to the end of the tag, which is left in the rest.
fn attributes<'a>(out: &mut String, mut rest: &'a str) -> Option<&'a str> {
    loop {
        rest = rest.trim_start();
        if rest.starts_with('>') || rest.starts_with("/>") {
            return Some(rest);
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = after.strip_prefix('"')?.split_once('"')?;
        rest = after;
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || " .%+-".contains(c));
        if ATTRIBUTES.split(' ').any(|attribute| attribute == name) && plain {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(value);
            out.push('"');
        }
    }
}

/// The library escapes some characters and leaves others; both end up as the same text.
fn unescaped(text: &str) -> String {
    text.replace("&nbsp;", "\u{a0}").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(latex: &str) -> String {
        let mut out = String::new();
        push_math(&mut out, latex, false);
        out
    }

    #[test]
    fn markdown_math_is_typeset() {
        assert!(html(r"\frac{a}{b}").contains("<mfrac>"));
        assert!(html(r"\begin{aligned} a &= b \\ c &= d \end{aligned}").contains("<mtable"));
        for common in [
            r"\sum_{i=1}^n x_i^2",
            r"\int_0^\infty e^{-x}\,dx",
            r"\sqrt[3]{x}",
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"a < b \text{ und } c",
            r"\left(\frac12\right)",
            r"\vec{v}\cdot\hat n",
            r"\mathbb{R}",
            r"\lim_{x\to 0}",
        ] {
            assert!(html(common).starts_with("<math"), "{common} → {}", html(common));
        }
    }

    #[test]
    fn markdown_math_cannot_smuggle_markup() {
        let attacks = [
            r"\text{<script>alert(1)</script>}",
            r"<img src=x onerror=alert(1)>",
            r"\operatorname{<img src=x>}",
            r#"\color{red" onload="alert(1)}x"#,
            r"\mathrm{</math><script>}",
            r"\href{javascript:alert(1)}{x}",
            r"\text{&lt;script&gt;}",
        ];
        for latex in attacks {
            let html = html(latex);
            for bad in ["<script", "<img", "onload=\"", "href", "</math><"] {
                let tags: String = html.split('<').skip(1).filter_map(|t| t.split('>').next()).collect::<Vec<_>>().join(" ");
                assert!(
                    !html.contains(bad) || !tags.contains(bad.trim_start_matches('<')),
                    "{latex} → {html}. If you are here because this failed: formulas are foreign text and must be escaped."
                );
            }
        }
    }

    #[test]
    fn markdown_math_that_cannot_be_typeset_is_shown_as_source() {
        let deep = [r"\sqrt ".repeat(1_000), r"\left(".repeat(500), "{".repeat(100), r"\not".repeat(1_000)];
        for latex in [r"\def\a{\a\a}\a", r"\frac{", r"\unknowncommand"].into_iter().chain(deep.iter().map(String::as_str)) {
            assert!(html(latex).starts_with("<code"), "{}", html(latex));
        }
    }

    /// A panic in the browser ends the page, so the library sees a good deal of nonsense here.
    #[test]
    fn markdown_math_survives_nonsense() {
        let pieces = [
            "\\frac",
            "{",
            "}",
            "^",
            "_",
            "\\left",
            "\\right",
            "(",
            ")",
            "&",
            "\\\\",
            "\\begin{matrix}",
            "\\end{matrix}",
            "\\begin{array}{c|c}",
            "\\end{array}",
            "\\sqrt",
            "[",
            "]",
            "x",
            "1",
            "'",
            "\\text",
            "\\color",
            "\\over",
            "\\limits",
            "\\not",
            "\\hline",
            " ",
            "ä",
            "\\",
            "~",
            "\\kern",
            "3pt",
            "\\hspace{1",
            "\\char",
            "\\mathbb",
            "\\big",
            "\\middle",
            "|",
            ".",
            "\\operatorname*",
            "\\substack",
            "#1",
            "%",
            "\\tag{1}",
            "\\overbrace",
            "\\begin{align}",
            "\\end{align}",
        ];
        let mut seed = 7_u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % below
        };
        for _ in 0..20_000 {
            let latex: String = (0..next(14)).map(|_| pieces[next(pieces.len())]).collect();
            let done = std::panic::catch_unwind(|| html(&latex));
            assert!(done.is_ok(), "{latex:?}. If you are here because this failed: refuse this input before it reaches the parser.");
        }
    }
}
