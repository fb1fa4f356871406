//! What a regular expression may be, judged by how it is written.
//!
//! The engine compiles it, and that may take a minute for a class of characters in every second byte. Here it is read and
//! measured, which takes as long as it is long.

use regex_syntax::ast::{
    self, Assertion, AssertionKind, Ast, ClassSetItem, Flag, Flags, GroupKind, RepetitionKind, RepetitionRange, Visitor,
    parse::ParserBuilder,
};

/// Bytes of an expression.
pub(super) const MOST_BYTES: usize = 4 * 1024;
/// Groups and classes within each other.
const MOST_NESTED: u32 = 48;
/// Classes of characters. Each may stand for a million characters and takes milliseconds.
const MOST_CLASSES: u32 = 64;
/// Characters and classes, each as often as it is repeated.
const MOST_STEPS: u64 = 16 * 1024;

/// # Errors
/// Why it cannot be used, and what to do about it.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let parsed = ParserBuilder::new().nest_limit(MOST_NESTED).build().parse(pattern);
    // Without the picture of the place, which takes several lines.
    let parsed = parsed.map_err(|error| error.kind().to_string())?;
    ast::visit(&parsed, Measure { edges: edges(&parsed), times: Vec::new(), classes: 0, steps: 0 })
}

/// Where `^` and `$` say what holds anyway; the engine passes over them there alone.
fn edges(ast: &Ast) -> Vec<usize> {
    let parts = match ast {
        Ast::Alternation(of) => return of.asts.iter().flat_map(edges).collect(),
        Ast::Concat(of) => of.asts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let first = parts.iter().find(|part| !matches!(part, Ast::Flags(_)));
    let at = |part: Option<&Ast>, kinds: [AssertionKind; 2]| match part {
        Some(Ast::Assertion(of)) if kinds.contains(&of.kind) => Some(of.span.start.offset),
        _ => None,
    };
    let begins = at(first, [AssertionKind::StartLine, AssertionKind::StartText]);
    begins.into_iter().chain(at(parts.last(), [AssertionKind::EndLine, AssertionKind::EndText])).collect()
}

/// What was counted so far.
struct Measure {
    /// See [`edges`].
    edges: Vec<usize>,
    /// How often what is being looked at is repeated, with each repetition around it.
    times: Vec<u64>,
    classes: u32,
    steps: u64,
}

impl Visitor for Measure {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Empty(_) | Ast::Concat(_) | Ast::Alternation(_) => Ok(()),
            Ast::Literal(_) => self.step(),
            Ast::Dot(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => self.class().and_then(|()| self.step()),
            Ast::Repetition(of) => self.repeat(&of.op.kind),
            Ast::Assertion(of) => self.assertion(of),
            Ast::Flags(of) => flags(&of.flags),
            Ast::Group(of) => group(&of.kind),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), String> {
        if matches!(ast, Ast::Repetition(_)) {
            self.times.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) | ClassSetItem::Bracketed(_) => self.class(),
            ClassSetItem::Ascii(of) if of.negated => self.class(),
            ClassSetItem::Range(of) if !of.end.c.is_ascii() => self.class(),
            _ => Ok(()),
        }
    }
}

impl Measure {
    fn times(&self) -> u64 {
        self.times.last().copied().unwrap_or(1)
    }

    fn class(&mut self) -> Result<(), String> {
        self.classes += 1;
        if self.classes > MOST_CLASSES {
            return Err(format!(
                "it has more than {MOST_CLASSES} classes of characters such as \\w, . and [a-z]; repeat one instead of writing it again"
            ));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps = self.steps.saturating_add(self.times());
        self.bounded(self.steps)
    }

    fn repeat(&mut self, kind: &RepetitionKind) -> Result<(), String> {
        let most = match kind {
            RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 1,
            RepetitionKind::Range(
                RepetitionRange::Exactly(times) | RepetitionRange::AtLeast(times) | RepetitionRange::Bounded(_, times),
            ) => u64::from(*times).max(1),
        };
        let times = self.times().saturating_mul(most);
        self.times.push(times);
        self.bounded(times)
    }

    fn bounded(&self, steps: u64) -> Result<(), String> {
        if steps <= MOST_STEPS {
            return Ok(());
        }
        Err(format!("multiplied out, its repetitions have more than {MOST_STEPS} characters; repeat less often, or with * or +"))
    }

    fn assertion(&self, of: &Assertion) -> Result<(), String> {
        use AssertionKind::{EndLine, EndText, StartLine, StartText};
        if self.edges.contains(&of.span.start.offset) {
            return Ok(());
        }
        Err(match of.kind {
            StartLine | StartText | EndLine | EndText => {
                "^ and $ stand at its edges alone; leave them out, the whole answer matches anyway"
            }
            _ => "word boundaries are not supported; write the characters that may stand there",
        }
        .into())
    }
}

fn flags(flags: &Flags) -> Result<(), String> {
    if flags.flag_state(Flag::MultiLine) == Some(true) {
        return Err("anchors of lines are not supported; leave the flag m out and write \\n where a line ends".into());
    }
    Ok(())
}

fn group(kind: &GroupKind) -> Result<(), String> {
    match kind {
        // To the engine it looks ahead.
        GroupKind::CaptureName { name, .. } if name.name == "stop" => {
            Err("a group must not have the name stop; give it another one".into())
        }
        GroupKind::NonCapturing(of) => flags(of),
        GroupKind::CaptureName { .. } | GroupKind::CaptureIndex(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_BYTES, check};

    #[test]
    fn what_is_usual_may_be_used() {
        let usual = [
            r"^\d{4}-\d{2}-\d{2}$",
            r"(?i)^(yes|no)$",
            "^yes$|^no$",
            r"\A[A-Za-z0-9._%+-]{1,64}@[a-z0-9.-]{1,253}\z",
            r"(?P<city>\w{1,30})(, (?:\w{1,30} ?){1,100})*",
            "[[:alpha:]äöü]{1,2000}",
            "",
        ];
        for pattern in usual {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_means_something_else_to_the_engine_is_refused() {
        let wrong = [
            ("(", "unclosed"),
            ("a(?=b)", "look-around"),
            (r"(a)\1", "backreferences"),
            (r"\bword\b", "word boundaries"),
            (r"a\Bb", "word boundaries"),
            ("a^b", "^ and $"),
            ("(^a)+", "^ and $"),
            ("(?:a$)b", "^ and $"),
            ("$a", "^ and $"),
            ("(?m)^a$", "flag m"),
            ("(?m:a)", "flag m"),
            ("a(?P<stop>b)", "name stop"),
            ("a(?<stop>b)", "name stop"),
        ];
        for (pattern, why) in wrong {
            let told = check(pattern).expect_err(pattern);
            assert!(told.contains(why), "{pattern}: {told}");
        }
    }

    #[test]
    fn what_takes_long_to_compile_is_refused() {
        let many = |piece: &str, times: usize| piece.repeat(times);
        let costly = [
            (format!("(?i){}", many(r"[\D]", MOST_BYTES / 4 - 1)), "classes"),
            (many(r"\w", MOST_BYTES / 2), "classes"),
            (many(".", 65), "classes"),
            (many(r"\pL", 65), "classes"),
            (format!("(?i)[{}]", many("\0-\u{10ffff}", 65)), "classes"),
            (format!("[{}]", many("[:^alpha:]", 65)), "classes"),
            ("((a{100}){100}){100}".into(), "multiplied out"),
            ("a{1000}{1000}".into(), "multiplied out"),
            ("(abc){10000}".into(), "multiplied out"),
            ("(){4294967295}".into(), "multiplied out"),
            ("(?:a{9000}b{9000,})".into(), "multiplied out"),
            (format!("{}a{}", many("(", 100), many(")", 100)), "nest"),
        ];
        for (pattern, why) in costly {
            let told = check(&pattern).expect_err(&pattern);
            assert!(told.contains(why), "{pattern}: {told}");
        }
    }
}
