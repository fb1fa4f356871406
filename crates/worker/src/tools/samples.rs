//! What models of each family write, for tests; and tests that hold for all families whose calls stand between marks.

use serde_json::{Value, json};
use worker_protocol::Tool;

use super::family::Family;
use super::parser::{Part, parser};
use super::thoughts::Thoughts;

pub fn tools() -> Vec<Tool> {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    ["weather", "time"].map(|name| Tool { name: name.into(), description: None, parameters: parameters.clone() }).into()
}

/// The parts with neighbours of a kind joined and ids left out, whatever the text is cut into.
pub fn read(family: Family, tools: Vec<Tool>, thoughts: Option<&'static Thoughts>, began: bool, text: &str) -> Vec<(char, String)> {
    let mut outcomes = [1, 2, 3, 7, usize::MAX].map(|size| {
        let mut parser = parser(family, tools.clone(), thoughts, began);
        let letters: Vec<char> = text.chars().collect();
        let mut parts: Vec<Part> = letters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
        parts.extend(parser.finish());
        joined(parts)
    });
    assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "where a text is cut must not matter: {outcomes:?}");
    std::mem::take(&mut outcomes[0])
}

fn joined(parts: Vec<Part>) -> Vec<(char, String)> {
    let mut joined: Vec<(char, String)> = Vec::new();
    for part in parts {
        let (kind, text) = match part {
            Part::Text(text) => ('t', text),
            Part::Reasoning(text) => ('r', text),
            Part::Call(call) => {
                let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
                ('c', format!("{} {arguments}", call.name))
            }
        };
        match joined.last_mut() {
            Some((last, so_far)) if *last == kind && kind != 'c' => so_far.push_str(&text),
            _ => joined.push((kind, text)),
        }
    }
    joined
}

pub fn parts(expected: &[(char, &str)]) -> Vec<(char, String)> {
    expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect()
}

struct Sample {
    family: Family,
    /// As little of a template as tells the family.
    template: &'static str,
    /// What begins a call; empty where nothing does.
    open: &'static str,
    /// A call of `weather` with a city and a number of days.
    one: &'static str,
    /// One of `weather` and one of `time`, both without arguments.
    two: &'static str,
    /// Whether text may follow.
    closed: bool,
}

static SAMPLES: [Sample; 22] = [
    Sample {
        family: Family::Hermes,
        template: "{{ tools }}<tool_call>",
        open: "<tool_call>",
        one: "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 2}}\n</tool_call>",
        two: "<tool_call>\n{\"name\": \"weather\"}\n</tool_call>\n<tool_call>\n{\"name\": \"time\"}\n</tool_call>",
        closed: true,
    },
    Sample {
        family: Family::Xml,
        template: "{{ tools }}<tool_call>\n<function=",
        open: "<tool_call>",
        one: "<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        two: "<tool_call>\n<function=weather>\n</function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>",
        closed: true,
    },
    Sample {
        family: Family::Llama3,
        template: "{{ tools }}Environment: ipython",
        open: "",
        one: "{\"name\": \"weather\", \"parameters\": {\"city\": \"Bonn\", \"days\": 2}}",
        two: "{\"name\": \"weather\", \"parameters\": {}}; {\"name\": \"time\", \"parameters\": {}}",
        closed: false,
    },
    Sample {
        family: Family::Llama3,
        template: "{{ tools }}<|python_tag|>",
        open: "<|python_tag|>",
        one: "<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"city\": \"Bonn\", \"days\": 2}}",
        two: "<|python_tag|>{\"name\": \"weather\", \"parameters\": {}}; {\"name\": \"time\", \"parameters\": {}}",
        closed: false,
    },
    Sample {
        family: Family::Pythonic,
        template: "{{ tools }}<|python_start|>Environment: ipython",
        open: "<|python_start|>",
        one: "<|python_start|>[weather(city=\"Bonn\", days=2)]<|python_end|>",
        two: "<|python_start|>[weather(), time()]<|python_end|>",
        closed: true,
    },
    Sample {
        family: Family::Pythonic,
        template: "{{ tools }}{{ m.tool_calls }}[func_name1(name=value), func_name2()]ipython",
        open: "",
        one: "[weather(city=\"Bonn\", days=2)]",
        two: "[weather(), time()]",
        closed: false,
    },
    Sample {
        family: Family::Mistral,
        template: "[AVAILABLE_TOOLS]{{ tools }}[/AVAILABLE_TOOLS][TOOL_CALLS]",
        open: "[TOOL_CALLS]",
        one: "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 2}}]",
        two: "[TOOL_CALLS]weather[ARGS]{}[TOOL_CALLS]time[ARGS]{}",
        closed: false,
    },
    Sample {
        family: Family::DeepSeek,
        template: "{{ tools }}<｜tool▁calls▁begin｜>",
        open: "<｜tool▁calls▁begin｜>",
        one: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Bonn\", \"days\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        two: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{}<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        closed: true,
    },
    Sample {
        family: Family::Dsml,
        template: "{% set dsml_token = '｜DSML｜' %}{{ tools }}<{{ dsml_token }}function_calls>",
        open: "<｜DSML｜function_calls>",
        one: "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Bonn</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        two: "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"time\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        closed: true,
    },
    Sample {
        family: Family::Dsml,
        template: "{{ tools }}<｜DSML｜tool_calls>",
        open: "<｜DSML｜tool_calls>",
        one: "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Bonn</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        two: "<｜DSML｜tool_calls><｜DSML｜invoke name=\"weather\"></｜DSML｜invoke><｜DSML｜invoke name=\"time\"></｜DSML｜invoke></｜DSML｜tool_calls>",
        closed: true,
    },
    Sample {
        family: Family::Gemma,
        template: "{% for tool in tools %}{% if m.role == 'tool' %}<|tool_call>call:",
        open: "<|tool_call>",
        one: "<|tool_call>call:weather{city:<|\"|>Bonn<|\"|>,days:2}<tool_call|>",
        two: "<|tool_call>call:weather{}<tool_call|><|tool_call>call:time{}<tool_call|>",
        closed: true,
    },
    Sample {
        family: Family::FunctionGemma,
        template: "{{ tools }}<start_function_call>call:",
        open: "<start_function_call>",
        one: "<start_function_call>call:weather{city:<escape>Bonn<escape>,days:2}<end_function_call>",
        two: "<start_function_call>call:weather{}<end_function_call><start_function_call>call:time{}<end_function_call>",
        closed: true,
    },
    Sample {
        family: Family::ToolCode,
        template: "{{ tools }}{{ m.tool_calls }}```tool_code",
        open: "```tool_code",
        one: "```tool_code\nweather(city='Bonn', days=2)\n```",
        two: "```tool_code\nweather()\ntime()\n```",
        closed: true,
    },
    Sample {
        family: Family::Glm,
        template: "{{ tools }}<tool_call>{name}\n<arg_key>",
        open: "<tool_call>",
        one: "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        two: "<tool_call>weather</tool_call><tool_call>time</tool_call>",
        closed: true,
    },
    Sample {
        family: Family::Kimi,
        template: "{{ tools }}<|tool_calls_section_begin|>",
        open: "<|tool_calls_section_begin|>",
        one: "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Bonn\", \"days\": 2}<|tool_call_end|><|tool_calls_section_end|>",
        two: "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        closed: true,
    },
    Sample {
        family: Family::MiniMax,
        template: "{{ tools }}<minimax:tool_call>",
        open: "<minimax:tool_call>",
        one: "<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">Bonn</parameter>\n<parameter name=\"days\">2</parameter>\n</invoke>\n</minimax:tool_call>",
        two: "<minimax:tool_call>\n<invoke name=\"weather\">\n</invoke>\n<invoke name=\"time\">\n</invoke>\n</minimax:tool_call>",
        closed: true,
    },
    Sample {
        family: Family::Seed,
        template: "{{ tools }}<seed:tool_call>\n<function=",
        open: "<seed:tool_call>",
        one: "<seed:tool_call>\n<function=weather>\n<parameter=city>Bonn</parameter>\n<parameter=days>2</parameter>\n</function>\n</seed:tool_call>",
        two: "<seed:tool_call>\n<function=weather>\n</function>\n<function=time>\n</function>\n</seed:tool_call>",
        closed: true,
    },
    Sample {
        family: Family::Granite,
        template: "{{ tools }}{{ m.tool_calls }}<|tool_call|>",
        open: "<|tool_call|>",
        one: "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 2}}]",
        two: "<|tool_call|>[{\"name\": \"weather\"}, {\"name\": \"time\"}]",
        closed: false,
    },
    Sample {
        family: Family::Nemotron,
        template: "{{ tools }}<TOOLCALL>",
        open: "<TOOLCALL>",
        one: "<TOOLCALL>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 2}}]</TOOLCALL>",
        two: "<TOOLCALL>[{\"name\": \"weather\"}, {\"name\": \"time\"}]</TOOLCALL>",
        closed: true,
    },
    Sample {
        family: Family::Functools,
        template: "{{ tools }}{{ m.tool_calls }}functools[",
        open: "functools[",
        one: "functools[{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 2}}]",
        two: "functools[{\"name\": \"weather\"}, {\"name\": \"time\"}]",
        closed: false,
    },
    Sample {
        family: Family::Command,
        template: "{{ tools }}<|START_ACTION|>",
        open: "<|START_ACTION|>",
        one: "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Bonn\", \"days\": 2}}\n]<|END_ACTION|>",
        two: "<|START_ACTION|>[{\"tool_name\": \"weather\"}, {\"tool_name\": \"time\"}]<|END_ACTION|>",
        closed: true,
    },
    Sample {
        family: Family::Lfm,
        template: "{{ tools }}{{ m.tool_calls }}<|tool_call_start|>",
        open: "<|tool_call_start|>",
        one: "<|tool_call_start|>[weather(city=\"Bonn\", days=2)]<|tool_call_end|>",
        two: "<|tool_call_start|>[weather(), time()]<|tool_call_end|>",
        closed: true,
    },
];

const WEATHER: (char, &str) = ('c', "weather {\"city\":\"Bonn\",\"days\":2}");
const BOTH: [(char, &str); 2] = [('c', "weather {}"), ('c', "time {}")];

impl Sample {
    fn read(&self, text: &str) -> Vec<(char, String)> {
        read(self.family, tools(), None, false, text)
    }
}

#[test]
fn each_family_is_told_by_its_template() {
    for sample in &SAMPLES {
        assert_eq!(Family::of(sample.template), Some(sample.family), "{}", sample.template);
    }
    assert_eq!(Family::of("{{ tools }}<|start|>assistant<|channel|>"), Some(Family::Harmony));
}

#[test]
fn each_familys_calls_are_taken_out_of_the_text() {
    for sample in &SAMPLES {
        assert_eq!(sample.read(sample.one), parts(&[WEATHER]), "{}", sample.one);
        assert_eq!(sample.read(sample.two), parts(&BOTH), "{}", sample.two);
        if sample.open.is_empty() {
            continue;
        }
        let before = format!("Let me <look>.\n{}", sample.one);
        assert_eq!(sample.read(&before), parts(&[('t', "Let me <look>.\n"), WEATHER]), "{before}");
        if sample.closed {
            let around = format!("\n{}\n{}\n\nThat is [it].", sample.one, sample.two);
            let expected = [&[WEATHER][..], &BOTH, &[('t', "\n\nThat is [it].")]].concat();
            assert_eq!(sample.read(&around), parts(&expected), "{around}");
        }
    }
}

#[test]
fn what_only_looks_like_a_familys_call_stays_text() {
    for sample in &SAMPLES {
        let unknown = sample.one.replace("weather", "unknown");
        let broken =
            sample.one.replace(['}', ')'], "").replace("</function>", "").replace("</invoke>", "").replace("</｜DSML｜invoke>", "");
        // One family forgives ends that are missing.
        let broken = broken.replace("</arg_value>", "").replace("<function=weather>", "<function=weather");
        let mut texts = vec![unknown, broken, format!("a {}", sample.open), format!("{} b", sample.open)];
        if sample.closed {
            texts.push(sample.one.replace("weather", "unknown") + " and so on");
        }
        for text in texts {
            assert_eq!(sample.read(&text), parts(&[('t', text.as_str())]), "{:?}: {text}", sample.family);
        }
        let parser_of_nothing = read(sample.family, Vec::new(), None, false, sample.one);
        assert_eq!(parser_of_nothing, parts(&[('t', sample.one)]), "there are no tools");
    }
}

#[test]
fn wherever_a_call_is_cut_nothing_is_lost_and_nothing_invented() {
    for (sample, whole) in SAMPLES.iter().flat_map(|sample| [(sample, sample.one), (sample, sample.two)]) {
        let complete = sample.read(whole);
        for (at, _) in whole.char_indices() {
            let cut = &whole[..at];
            let read = sample.read(cut);
            let calls = read.iter().take_while(|(kind, _)| *kind == 'c').count();
            assert_eq!(read[..calls], complete[..calls], "{cut}");
            match &read[calls..] {
                // The marks around what is complete are form.
                [] => assert!(at == 0 || calls > 0, "{cut}"),
                [(kind, text)] => {
                    assert!(*kind == 't' && cut.ends_with(text), "{cut}: {text}");
                    assert!(calls > 0 || text == cut, "{cut}: {text}");
                }
                more => panic!("{cut}: {more:?}"),
            }
        }
    }
}
