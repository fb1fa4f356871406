// The examples of docs/INTEGRATE.md, and what each needs to be run.
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const document = resolve(dirname(fileURLToPath(import.meta.url)), "../../docs/INTEGRATE.md");

/** Where Kontor is in the document. */
const DOCUMENTED_ORIGIN = "https://kontor.example.org";
/** The document's model for chats. */
const DOCUMENTED_MODEL = "qwen2.5-coder-1.5b-instruct";

/** What runs an example: a shell, Node, or Python with the packages of one of the virtual environments of scripts/setup. */
export type Runner = "shell" | "node" | "clients" | "clients-llamaindex";

/** How an example is run. What it needs beside its own text is what its section says it has. */
export interface Run {
    by: Runner;
    /** The key that it finds in `KONTOR_KEY` opens server functions, not models. */
    functions?: true;
    /** The example that it goes on from, in the same program. */
    follows?: string;
    before?: string;
    /** Says something of what came of it, and fails if nothing did. */
    after?: string;
    /** What is printed. */
    prints: RegExp;
}

/** Not nothing. */
const SOMETHING = /^(?!None$)\S/m;

const KEY = 'import os\nkey = os.environ["KONTOR_KEY"]';

/** By section and number within it. */
export const RUNS: Record<string, Run> = {
    "A key 1": { by: "shell", prints: /sk-kontor-/ },
    "curl 1": { by: "shell", prints: /"content":"[^"]/ },
    "curl 2": { by: "shell", prints: /"object":"model"/ },
    "Python 1": { by: "clients", prints: SOMETHING },
    "Python 2": { by: "clients", follows: "Python 1", after: "print('middle:', answer.choices[0].text.strip())", prints: /^middle: \S/m },
    "Python 3": { by: "clients", follows: "Python 1", after: "print('founded in', answer.choices[0].message.content)", prints: /^founded in 1\d{3}$/m },
    "JavaScript 1": { by: "node", prints: SOMETHING },
    "LangChain 1": {
        by: "clients",
        before: KEY,
        after: 'print(len(vectors.embed_query("query: a")), model.invoke("Say hello.").content)',
        prints: /^384 \S/m,
    },
    "LlamaIndex 1": { by: "clients-llamaindex", before: KEY, after: 'print(len(vectors.get_text_embedding("a")))', prints: /^384$/m },
    "LiteLLM 1": {
        by: "clients",
        before: KEY,
        after: 'print(len(vectors.data[0]["embedding"]), answer.choices[0].message.content)',
        prints: /^384 \S/m,
    },
    "Responses 1": {
        by: "clients",
        follows: "Python 1",
        after: "client.responses.cancel(job.id)\nprint('second:', second.output_text)",
        prints: /^second: \S/m,
    },
    "Files and batches 1": {
        by: "clients",
        follows: "Python 1",
        before: 'import json, time\nletters = ["Say hello in one word.", "Say yes in one word."]',
        after: "print([json.loads(line)['custom_id'] for line in answers.splitlines()])",
        prints: /^\['letter-0', 'letter-1'\]$/m,
    },
    "Anthropic's clients 1": { by: "clients", before: KEY, after: "print(answer.content[0].text)", prints: SOMETHING },
    "Server functions 1": { by: "shell", prints: /"type":"end"/ },
    "Server functions 2": { by: "clients", functions: true, prints: SOMETHING },
};

/** Examples that no test can run, and why. */
export const NOT_RUN: Record<string, string> = {
    "An editor: Continue and Cline 1": "the editor's plug-in reads it",
    "An office macro 1": "it runs within LibreOffice",
    "Images 1": "no model of the tests takes pictures",
};

/** Something that the document shows how to do. */
export interface Example {
    /** Its section and its number within it. */
    name: string;
    text: string;
}

/** Fenced blocks of a document in Markdown, and commands of curl between them. */
export function examplesIn(markdown: string): Example[] {
    const examples: Example[] = [];
    const numbers = new Map<string, number>();
    let section = "";
    let block: string[] | undefined;
    const add = (text: string) => {
        const number = (numbers.get(section) ?? 0) + 1;
        numbers.set(section, number);
        examples.push({ name: `${section} ${number}`, text });
    };
    for (const line of markdown.split("\n")) {
        if (line.startsWith("```")) {
            if (block) add(block.join("\n"));
            block = block ? undefined : [];
        } else if (block) {
            block.push(line);
        } else if (line.startsWith("#")) {
            section = line.replace(/^#+ /, "");
        } else {
            for (const command of line.matchAll(/`(curl [^`]+)`/g)) add(command[1]!);
        }
    }
    if (block) throw new Error(`a block in ${section} does not end`);
    return examples;
}

/** The examples of the document, in its order. */
export const EXAMPLES = examplesIn(readFileSync(document, "utf8"));

/** The program of an example, with this server and this model in the place of the document's. */
export function programOf(name: string, origin: string, model: string): string {
    const textOf = (wanted: string) => {
        const example = EXAMPLES.find((example) => example.name === wanted);
        if (!example) throw new Error(`docs/INTEGRATE.md has no example ${wanted}`);
        return example.text;
    };
    const { follows, before, after } = RUNS[name]!;
    const parts = [follows && textOf(follows), before, textOf(name), after].filter((part) => part !== undefined);
    return parts.join("\n").replaceAll(DOCUMENTED_ORIGIN, origin).replaceAll(DOCUMENTED_MODEL, model);
}
