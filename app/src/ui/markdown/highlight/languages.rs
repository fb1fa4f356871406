//! The table of languages. To add one: a name in [`find`], a label in [`label`], and a
//! [`Language`] unless it belongs to a family that is here already.

/// How a language is read.
pub enum Syntax {
    Words(&'static Language),
    Markup,
    Diff,
}

/// What the lexer needs to know about a language made of words, strings and comments.
pub struct Language {
    /// Separated by one space.
    pub keywords: &'static str,
    pub line_comments: &'static [&'static str],
    pub block_comment: Option<(&'static str, &'static str)>,
    /// Quotes that end at the line's end.
    pub quotes: &'static [char],
    /// Quotes that span lines, longest first.
    pub long_quotes: &'static [&'static str],
    pub case_insensitive: bool,
    /// `Name` is a type.
    pub types: bool,
    /// `name(` is a function.
    pub calls: bool,
    /// What follows a key: `:` in JSON and CSS, `=` in TOML; only first in its line where `keys_first`.
    pub key_mark: Option<char>,
    pub keys_first: bool,
    /// `$name` is a variable.
    pub dollar: bool,
    /// A single quote before a name without a closing one is a lifetime, not a string.
    pub lifetimes: bool,
    /// `#[…]`, `@name` or a `#` at the start of a line.
    pub meta: &'static [&'static str],
    /// Characters besides letters, digits and `_` that belong to a word.
    pub word_extra: &'static [char],
}

const BASE: Language = Language {
    keywords: "",
    line_comments: &["//"],
    block_comment: Some(("/*", "*/")),
    quotes: &['"', '\''],
    long_quotes: &[],
    case_insensitive: false,
    types: true,
    calls: true,
    key_mark: None,
    keys_first: false,
    dollar: false,
    lifetimes: false,
    meta: &[],
    word_extra: &[],
};

static RUST: Language = Language {
    keywords: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move \
               mut pub ref return self static struct super trait true type unsafe use where while",
    long_quotes: &["\""],
    quotes: &['\''],
    lifetimes: true,
    meta: &["#[", "#!["],
    ..BASE
};

static C: Language = Language {
    keywords: "alignas auto bool break case catch char class const constexpr continue default delete do double else enum \
               explicit extern false float for friend goto if inline int long namespace new noexcept nullptr operator override \
               private protected public register return short signed sizeof static struct switch template this throw true try \
               typedef typename union unsigned using virtual void volatile while",
    meta: &["#"],
    ..BASE
};

static SCRIPT: Language = Language {
    keywords: "abstract any as async await boolean break case catch class const continue debugger declare default delete do \
               else enum export extends false finally for from function get if implements import in instanceof interface keyof \
               let namespace new null number of private protected public readonly return satisfies set static string super \
               switch this throw true try type typeof undefined unknown var void while yield",
    long_quotes: &["`"],
    meta: &["@"],
    ..BASE
};

static JAVA: Language = Language {
    keywords: "abstract as async await base bool boolean break byte case catch char class companion const continue data decimal \
               default delegate do double else enum event extends false final finally float for foreach fun func get goto guard \
               if implements import in instanceof int interface internal is let lock long nameof namespace native new nil null \
               object open operator out override package params partial private protected public readonly record ref return \
               sealed self set short sizeof static string struct super switch synchronized this throw throws transient true try \
               typeof using val var virtual void volatile when where while with yield",
    long_quotes: &["\"\"\""],
    meta: &["@", "#"],
    ..BASE
};

static GO: Language = Language {
    keywords: "any bool break byte case chan const continue default defer else error fallthrough false float64 for func go goto \
               if import int int64 interface iota map nil package range return rune select string struct switch true type uint \
               var",
    long_quotes: &["`"],
    ..BASE
};

static PHP: Language = Language {
    keywords: "abstract and array as break case catch class const continue declare default do echo else elseif enum extends \
               false final finally fn for foreach function global if implements instanceof interface match namespace new null \
               or php print private protected public readonly require return self static switch this throw trait true try use \
               var while yield",
    line_comments: &["//", "#"],
    dollar: true,
    ..BASE
};

static PYTHON: Language = Language {
    keywords: "and as assert async await begin break case class continue def del do elif else elsif end except False finally \
               for from global if import in is lambda match module nil None nonlocal not or pass raise require rescue return \
               self True try unless until while with yield",
    line_comments: &["#"],
    block_comment: None,
    long_quotes: &["\"\"\"", "'''"],
    meta: &["@"],
    ..BASE
};

static SHELL: Language = Language {
    keywords: "alias break case cd continue do done echo elif else esac eval exec exit export fi for function if in local \
               return set shift source sudo then trap unset until while",
    line_comments: &["#"],
    block_comment: None,
    quotes: &[],
    long_quotes: &["\"", "'", "`"],
    types: false,
    calls: false,
    dollar: true,
    word_extra: &['-'],
    ..BASE
};

static SQL: Language = Language {
    keywords: "add all alter and as asc begin between bigint boolean by cascade case check column commit constraint create \
               cross date default delete desc distinct drop else end exists false foreign from full function grant group having \
               if in index inner insert int integer into is join key left like limit not null numeric offset on or order outer \
               over partition primary references returning revoke right rollback select serial set table text then timestamp \
               timestamptz transaction true union unique update using uuid values varchar view when where with",
    line_comments: &["--"],
    quotes: &[],
    long_quotes: &["'", "\""],
    case_insensitive: true,
    types: false,
    ..BASE
};

static CSS: Language = Language { line_comments: &[], types: false, key_mark: Some(':'), meta: &["@"], word_extra: &['-'], ..BASE };

static JSON: Language = Language { keywords: "true false null", types: false, calls: false, key_mark: Some(':'), ..BASE };

static YAML: Language = Language {
    keywords: "true false null yes no on off",
    line_comments: &["#"],
    block_comment: None,
    types: false,
    calls: false,
    key_mark: Some(':'),
    keys_first: true,
    word_extra: &['-', '.', '/'],
    ..BASE
};

static TOML: Language = Language {
    keywords: "true false",
    line_comments: &["#", ";"],
    block_comment: None,
    long_quotes: &["\"\"\"", "'''"],
    types: false,
    calls: false,
    key_mark: Some('='),
    keys_first: true,
    word_extra: &['-', '.'],
    ..BASE
};

/// The language that a fence's info string names (`rust`, `rust,no_run`, `{.python}`).
pub fn find(info: &str) -> Option<Syntax> {
    let language = match name(info).as_str() {
        "rust" | "rs" => &RUST,
        "c" | "h" | "cpp" | "c++" | "cc" | "hpp" | "objc" | "arduino" | "cuda" => &C,
        "js" | "javascript" | "jsx" | "mjs" | "ts" | "typescript" | "tsx" | "node" => &SCRIPT,
        "java" | "cs" | "csharp" | "c#" | "kotlin" | "kt" | "scala" | "swift" | "dart" | "groovy" => &JAVA,
        "go" | "golang" => &GO,
        "php" => &PHP,
        "python" | "py" | "python3" | "ruby" | "rb" => &PYTHON,
        "sh" | "bash" | "shell" | "zsh" | "console" | "fish" | "dockerfile" | "makefile" | "powershell" | "ps1" => &SHELL,
        "sql" | "postgres" | "postgresql" | "mysql" | "sqlite" | "plsql" => &SQL,
        "css" | "scss" | "less" => &CSS,
        "json" | "jsonc" | "json5" => &JSON,
        "yaml" | "yml" => &YAML,
        "toml" | "ini" | "conf" | "properties" | "env" => &TOML,
        "html" | "xml" | "svg" | "xhtml" | "vue" | "svelte" => return Some(Syntax::Markup),
        "diff" | "patch" => return Some(Syntax::Diff),
        _ => return None,
    };
    Some(Syntax::Words(language))
}

/// What the bar above the code says: the language as its people write it, else the info string's first word.
#[must_use]
pub fn label(info: &str) -> String {
    let name = name(info);
    let known = match name.as_str() {
        "rust" | "rs" => "Rust",
        "c" => "C",
        "cpp" | "c++" | "cc" | "hpp" => "C++",
        "js" | "javascript" | "mjs" | "node" => "JavaScript",
        "ts" | "typescript" => "TypeScript",
        "java" => "Java",
        "cs" | "csharp" | "c#" => "C#",
        "kotlin" | "kt" => "Kotlin",
        "swift" => "Swift",
        "go" | "golang" => "Go",
        "php" => "PHP",
        "python" | "py" | "python3" => "Python",
        "ruby" | "rb" => "Ruby",
        "sh" | "bash" | "shell" | "zsh" | "console" => "Shell",
        "sql" => "SQL",
        "css" => "CSS",
        "json" => "JSON",
        "yaml" | "yml" => "YAML",
        "toml" => "TOML",
        "html" => "HTML",
        "xml" => "XML",
        "diff" | "patch" => "Diff",
        _ => return name,
    };
    known.into()
}

fn name(info: &str) -> String {
    let word = info.trim_start_matches(['{', '.', ' ']).split([' ', ',', '{', '}', ':', '\t']).next().unwrap_or_default();
    word.to_ascii_lowercase()
}
