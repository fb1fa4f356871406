//! The promises of this module as a whole: safe, and the same whether a text came at once or in pieces.

use super::{Blocks, Labels, render};
use pulldown_cmark::Parser;

const LABELS: Labels = Labels { copy: "Copy", image: "Image" };

fn html(text: &str) -> String {
    let mut blocks = Blocks::new(LABELS);
    blocks.update(text);
    joined(&blocks)
}

fn joined(blocks: &Blocks) -> String {
    blocks.blocks().iter().map(|block| &*block.html).collect::<Vec<_>>().join("\n")
}

/// A text in which everything occurs, one thing per paragraph.
const RICH: &str = r##"# Title *one*

Some text with **strong**, `code`, ~~gone~~ and a [link](https://example.org "title").
Second line\
hard break, $a_1 + b_1$ and \(c_2\) and <b>raw</b>.

| a | b |
|:--|--:|
| 1 | `x|y` |
| 2 | [ref] |

- one
- two

  more of two
  1. deep
  2. deeper

     ```python
     def f():
         return "\(no formula\)"
     ```
- [x] done
- [ ] open

* other list
+ third list

> quote
> - in quote
lazy

```rust
fn main() { println!("<script>"); }

// \[ not a formula \]
```

\[
\frac{a}{b}
= c
- d
\]

$$
\sum_{i=0}^{n} i
$$

Setext
======

another
---

    indented code

<div onclick="x">
block html
</div>

text after ![img](https://example.org/x.png) and [ref] again

5. five
6. six

***

[ref]: https://example.org/ref
[REF]: https://example.org/second

last <https://example.org/auto> paragraph
"##;

#[test]
fn markdown_incremental_equals_whole_at_every_cut() {
    let cuts = RICH.char_indices().map(|(ix, _)| ix);
    for cut in cuts {
        let mut blocks = Blocks::new(LABELS);
        blocks.update(&RICH[..cut]);
        assert_eq!(joined(&blocks), html(&RICH[..cut]));
        blocks.update(RICH);
        assert_eq!(joined(&blocks), html(RICH), "cut at {cut}. If you are here because this failed: a block was settled too early.");
    }
}

#[test]
fn markdown_incremental_equals_whole_character_by_character() {
    let mut blocks = Blocks::new(LABELS);
    for (ix, c) in RICH.char_indices() {
        let text = &RICH[..ix + c.len_utf8()];
        blocks.update(text);
        assert_eq!(joined(&blocks), html(text), "after {ix}. If you are here because this failed: a block was settled too early.");
    }
}

#[test]
fn markdown_incremental_equals_whole_on_random_texts() {
    let lines = [
        "text",
        "more *text*",
        "",
        "",
        "- item",
        "+ item",
        "-",
        "  continued",
        "    deep",
        "```",
        "~~~",
        "> quote",
        "# head",
        "---",
        "===",
        "1. one",
        "2. two",
        "a | b",
        "--|--",
        "[x]: https://e.org",
        "[x]",
        "<div>",
        "<!--",
        "-->",
        "\\[",
        "\\]",
        "$$",
        "a $x$ b",
        "\\(y",
        "z\\)",
        "`open",
        "***",
        "\t tab",
        "ä🦀",
        "|",
        "![i](u)",
        "<script>",
        "</script>",
        "**",
        "_a",
        "1)",
        "   ",
        "```rust",
        "[x]:",
    ];
    let mut seed = 11_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap_or(0) % below
    };
    for _ in 0..3_000 {
        let mut text = String::new();
        for _ in 0..=next(14) {
            text.push_str(lines[next(lines.len())]);
            text.push('\n');
        }
        let mut blocks = Blocks::new(LABELS);
        let mut cut = 0;
        while cut < text.len() {
            cut = (cut + 1 + next(9)).min(text.len());
            while !text.is_char_boundary(cut) {
                cut += 1;
            }
            blocks.update(&text[..cut]);
        }
        assert_eq!(joined(&blocks), html(&text), "{text:?}. If you are here because this failed: a block was settled too early.");
    }
}

#[test]
fn markdown_blocks_equal_one_parse() {
    let normalised = super::delimiters::normalise(RICH);
    let mut renderer = render::Renderer::new(RICH, LABELS);
    for (event, range) in Parser::new_ext(&normalised.text, render::options()).into_offset_iter() {
        renderer.event(event, &range);
    }
    assert_eq!(html(RICH).replace('\n', ""), renderer.take().replace('\n', ""));
}

#[test]
fn markdown_settled_blocks_keep_their_html() {
    let mut blocks = Blocks::new(LABELS);
    blocks.update("one\n\ntwo\n\nthree");
    let before: Vec<_> = blocks.blocks().iter().map(|block| block.html.clone()).collect();
    blocks.update("one\n\ntwo\n\nthree and more\n\nfour");
    assert!(
        std::sync::Arc::ptr_eq(&before[0], &blocks.blocks()[0].html),
        "If you are here because this failed: a finished block was rendered again, which costs frames in long answers."
    );
}

/// Tags in `html`, without their brackets.
fn tags(html: &str) -> Vec<String> {
    html.split('<').skip(1).filter_map(|rest| rest.split('>').next()).map(str::to_owned).collect()
}

#[test]
fn markdown_is_safe_against_a_table_of_attacks() {
    let attacks = [
        "<script>alert(1)</script>",
        "a <script>alert(1)</script> b",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "</textarea><script>alert(1)</script>",
        "</div></div><iframe src=javascript:alert(1)>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](<javascript:alert(1)>)",
        "[x](java&#10;script:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](javascript&colon;alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:msgbox)",
        "[x]( javascript:alert(1))",
        "[x](\u{1}javascript:alert(1))",
        "<javascript:alert(1)>",
        "[a]: javascript:alert(1)\n\n[a]",
        "![x](javascript:alert(1))",
        "![x](https://e.org/\"onerror=\"alert(1))",
        "[x](https://e.org/\"onmouseover=\"alert(1))",
        "[x](https://e.org 'a\" onmouseover=\"alert(1)')",
        "[x](https://e.org/<script>alert(1)</script>)",
        "![\"onerror=\"alert(1)](https://e.org)",
        "[![x](javascript:a)](javascript:b)",
        "[[x](https://a.org)](https://b.org)",
        "```\"><script>alert(1)</script>\nx\n```",
        "```html\n</code></pre><script>alert(1)</script>\n```",
        "``` <img/src/onerror=alert(1)>\n```",
        "`<script>`",
        "# <script>",
        "| <script> | b |\n|--|--|\n| <img onerror=x> | `</td><script>` |",
        "> <script>",
        "- <script>\n  <img onerror=x>",
        "$<script>alert(1)</script>$",
        "$\\text{<script>alert(1)</script>}$",
        "\\[\\href{javascript:alert(1)}{x}\\]",
        "<!-- --><script>alert(1)</script>",
        "<!--><script>alert(1)</script>",
        "<![CDATA[<script>]]>",
        "<?php <script> ?>",
        "<style>*{}</style>",
        "<math><mi//xlink:href=\"data:x,<script>\">",
        "&lt;script&gt; &#60;script&#62;",
        "<https://e.org/\"onclick=\"x>",
        "<a\u{0}href=x>",
        "- [x] <script>",
    ];
    let allowed = [
        "p",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "ul",
        "ol",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "em",
        "strong",
        "del",
        "a",
        "code",
        "pre",
        "div",
        "span",
        "button",
        "br",
        "hr",
        "math",
        "mi",
        "mo",
        "mn",
        "mtext",
        "mrow",
        "mspace",
        "mstyle",
    ];
    for attack in attacks {
        for text in [attack.to_owned(), format!("para {attack}"), format!("- {attack}"), format!("{attack}\n\n```")] {
            let html = html(&text);
            for tag in tags(&html) {
                let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default().to_owned();
                assert!(
                    allowed.contains(&name.as_str()),
                    "{text:?} → {html}. If you are here because this failed: foreign HTML reached the page."
                );
                let attributes = tag.split_once(' ').map_or("", |(_, rest)| rest);
                for bad in ["javascript:", "data:", "vbscript:", " on", "src=", "style="] {
                    let found = format!(" {attributes}").to_lowercase().contains(bad) && !outside_quotes_free(attributes, bad);
                    assert!(!found, "{text:?} → <{tag}>. If you are here because this failed: foreign text became an attribute.");
                }
            }
        }
    }
}

/// Whether `bad` occurs only inside a quoted value (where it is text) and not as a value's beginning.
fn outside_quotes_free(attributes: &str, bad: &str) -> bool {
    attributes.split('"').enumerate().all(|(ix, piece)| {
        let piece = piece.to_lowercase();
        if ix % 2 == 0 { !format!(" {piece}").contains(bad) } else { !piece.starts_with(bad.trim()) }
    })
}

#[test]
fn markdown_links_open_outside_and_images_load_nothing() {
    assert_eq!(
        html("[x](https://e.org?a=1&b=2)"),
        "<p><a href=\"https://e.org?a=1&amp;b=2\" target=\"_blank\" rel=\"noopener noreferrer\">x</a></p>"
    );
    assert_eq!(html("[x](/ui/sign_out)"), "<p>x</p>");
    let image = html("![alt *text*](https://e.org/x.png)");
    assert!(image.contains(">Image: alt <em>text</em></a>") && !image.contains("<img"), "{image}");
}

#[test]
fn markdown_unfinished_things_look_finished() {
    let open = html("```rust\nlet a = 1;");
    assert!(open.contains("Rust") && open.ends_with("</code></pre></div>"), "{open}");
    assert_eq!(html("**half"), "<p>**half</p>");
    assert!(html("| a | b |\n|--|--|\n| 1").contains("<td>1</td>"));
}

#[test]
fn markdown_references_count_for_the_whole_text() {
    let mut blocks = Blocks::new(LABELS);
    blocks.update("see [one]\n\nnext\n\n");
    assert!(blocks.blocks()[0].html.contains("[one]"));
    blocks.update("see [one]\n\nnext\n\n[one]: https://e.org/1\n");
    assert!(blocks.blocks()[0].html.contains("https://e.org/1"), "{}", joined(&blocks));
}

#[test]
fn markdown_replaced_text_starts_over() {
    let mut blocks = Blocks::new(LABELS);
    blocks.update("# a\n\nb\n\nc");
    blocks.update("other");
    assert_eq!(joined(&blocks), "<p>other</p>");
    blocks.update("");
    assert_eq!(joined(&blocks), "");
}

#[test]
fn markdown_headings_begin_below_the_page() {
    assert_eq!(html("# a\n## b\n###### c"), "<h3>a</h3>\n<h4>b</h4>\n<h6>c</h6>");
}
