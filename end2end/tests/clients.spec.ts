// The official clients of OpenAI's API against the built product: base URL and key changed, nothing else.
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@playwright/test";
import OpenAI from "openai";
import { LONG_QUESTION } from "../support/chat";
import { EXAMPLES, NOT_RUN, RUNS, type Run, type Runner, programOf } from "../support/examples";
import { Product, SMALL_MODEL, sleep } from "../support/product";

const folder = resolve(dirname(fileURLToPath(import.meta.url)), "../clients");
const cache = process.env.KONTOR_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kontor");
const CHAT = "qwen2.5-coder-0.5b-instruct";
const EMBEDDING = "multilingual-e5-small";

let product: Product;
let key: string;
/** Of an account with next to no money. */
let poor: string;
/** Of one that may ask one thing at a time. */
let narrow: string;
/** Of one that may call what the interface itself calls. */
let functions: string;
/** Of one of a tenant with rules. */
let guarded: string;

/** A key of a new service account of a tenant; without scopes, of the usual one. */
async function accountOf(tenant: string, name: string, purpose: string, ...scopes: string[]): Promise<string> {
    await product.admin(["create-service-account", "--tenant", tenant, "--name", name, "--purpose", purpose]);
    const wanted = scopes.flatMap((scope) => ["--scope", scope]);
    return (await product.admin<{ key: string }>(["create-key", "--tenant", tenant, "--account", name, ...wanted])).key;
}

const account = (name: string, purpose: string, ...scopes: string[]) => accountOf("demo", name, purpose, ...scopes);

/** What the tenant with rules does not allow. */
const RULES = { rules: [{ name: "contacts", check: { kind: "pii", entities: ["email"] }, on: ["input"], action: "block" }] };

const whose = (name: string) => ["--tenant", "demo", "--level", "service-account", "--of", name];

test.beforeAll(async () => {
    test.setTimeout(120_000);
    product = await Product.prepare();
    const models = [
        `[[models.offered]]\nid = "${CHAT}"\npath = "${join(cache, "models", SMALL_MODEL)}"`,
        `[[models.offered]]\nid = "${EMBEDDING}"\nkind = "embedding"\npath = "${join(cache, "models", "multilingual-e5-small-q4_0.gguf")}"`,
    ];
    writeFileSync(join(product.folder, "kontor.toml"), `${models.join("\n\n")}\n`);
    await product.launch();
    key = await account("Contract tests", "Proves that clients work");
    poor = await account("Poor", "Has little");
    narrow = await account("Narrow", "Has one place");
    functions = await account("Functions", "Calls what the interface calls", "chat", "usage");
    await product.admin(["create-tenant", "--slug", "guarded", "--name", "Guarded"]);
    const rules = join(product.folder, "rules.json");
    writeFileSync(rules, JSON.stringify(RULES));
    await product.admin(["set-guardrails", "--tenant", "guarded", "--file", rules]);
    guarded = await accountOf("guarded", "Guarded", "Has rules");
    await product.admin(["set-price", "--model", CHAT, "--currency", "EUR", "--input", "0.15", "--output", "0.60"]);
    await product.admin(["add-budget", ...whose("Poor"), "--amount", "0.000001", "--currency", "EUR"]);
    await product.admin(["add-limit", ...whose("Narrow"), "--at-a-time", "1"]);
    // Changes are in force within two seconds.
    await sleep(2_000);
});

test.afterAll(async () => {
    await product.discard();
});

const client = (apiKey = key) => new OpenAI({ apiKey, baseURL: `${product.origin}/v1`, maxRetries: 0 });

test("JavaScript: chat in one piece and as a stream", async () => {
    const ask = { model: CHAT, messages: [{ role: "user" as const, content: "Say hello in one word." }], temperature: 0, max_tokens: 16 };
    const whole = await client().chat.completions.create(ask);
    expect(whole.choices[0]!.message.content).toBeTruthy();
    expect(whole.usage!.total_tokens).toBe(whole.usage!.prompt_tokens + whole.usage!.completion_tokens);

    let streamed = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of await client().chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
        streamed += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
    }
    expect(streamed).toBe(whole.choices[0]!.message.content);
    expect(usage!.completion_tokens).toBe(whole.usage!.completion_tokens);
});

test("JavaScript: a tool is called and its result used", async () => {
    const tools: OpenAI.ChatCompletionTool[] = [
        { type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } },
    ];
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "What is the weather in Kiel?" }];
    const stream = client().chat.completions.stream({ model: CHAT, messages, tools, tool_choice: "required", temperature: 0, max_tokens: 64 });
    const called = (await stream.finalChatCompletion()).choices[0]!;
    expect(called.finish_reason).toBe("tool_calls");
    const call = called.message.tool_calls![0]!;
    expect(call.type === "function" && JSON.parse(call.function.arguments)).toMatchObject({ city: expect.any(String) });
    messages.push(called.message, { role: "tool", tool_call_id: call.id, content: "Rain, 7 degrees." });
    const answer = await client().chat.completions.create({ model: CHAT, messages, tools, temperature: 0, max_tokens: 48 });
    expect(answer.choices[0]!.message.content).toContain("7");
});

test("JavaScript: a response is streamed, kept and gone on from", async () => {
    const ask = { model: CHAT, input: "Say hello in one word.", temperature: 0, max_output_tokens: 16 };
    const streamed = await client().responses.stream(ask).finalResponse();
    expect(streamed.output_text).toBeTruthy();
    expect((await client().responses.retrieve(streamed.id)).output_text).toBe(streamed.output_text);
    const again = await client().responses.stream({ response_id: streamed.id }).finalResponse();
    expect(again.output_text).toBe(streamed.output_text);
    const next = await client().responses.create({ ...ask, input: "And in German?", previous_response_id: streamed.id });
    expect(next.usage!.input_tokens).toBeGreaterThan(streamed.usage!.input_tokens);
});

test("JavaScript: errors are the classes that programs catch", async () => {
    const ask = { model: CHAT, messages: [{ role: "user" as const, content: "x" }] };
    await expect(client("sk-kontor-wrong").chat.completions.create(ask)).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    await expect(client().chat.completions.create({ ...ask, model: "gpt-9" })).rejects.toMatchObject({ status: 404, code: "model_not_found" });
    await expect(client().chat.completions.create({ ...ask, temperature: 7 })).rejects.toMatchObject({ status: 400, param: "temperature" });
});

test("JavaScript: a budget that is used up is told once, a limit with the time to come back", async () => {
    const slow = await account("Slow", "May ask once a minute");
    await product.admin(["add-limit", ...whose("Slow"), "--requests", "1"]);
    const ask = { model: CHAT, messages: [{ role: "user" as const, content: "Say hello in one word." }], max_tokens: 8 };
    let requests = 0;
    const counting: typeof fetch = (...call) => {
        requests += 1;
        return fetch(...call);
    };
    const retrying = new OpenAI({ apiKey: poor, baseURL: `${product.origin}/v1`, maxRetries: 2, fetch: counting });
    await expect(retrying.chat.completions.create(ask)).rejects.toMatchObject({ status: 429, code: "insufficient_quota", type: "insufficient_quota" });
    expect(requests).toBe(1);

    // Changes are in force within two seconds.
    await sleep(2_000);
    const { response } = await client(slow).chat.completions.create(ask).withResponse();
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("1");
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(response.headers.get("x-kontor-cost")).toMatch(/^0\.\d+ EUR$/);
    const refused = await client(slow).chat.completions.create(ask).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(OpenAI.RateLimitError);
    expect(Number((refused as InstanceType<typeof OpenAI.RateLimitError>).headers.get("retry-after"))).toBeGreaterThan(30);
});

test("JavaScript: whoever stops reading stops the model", async () => {
    const stream = await client().chat.completions.create({
        model: CHAT,
        messages: [{ role: "user", content: "Count from one to two hundred in words." }],
        max_tokens: 1500,
        stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    await expect.poll(() => product.gauge("kontor_worker_busy"), { timeout: 5_000 }).toBe(0);
});

test("JavaScript: an answer has the shape that was asked for", async () => {
    const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false };
    const answer = await client().chat.completions.create({
        model: CHAT,
        messages: [{ role: "user", content: "Anna is 34. Describe her." }],
        response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
        temperature: 0,
        max_tokens: 64,
    });
    expect(JSON.parse(answer.choices[0]!.message.content!)).toEqual({ name: expect.any(String), age: expect.any(Number) });
});

test("JavaScript: vectors, as numbers and as the client asks for them by itself", async () => {
    const input = ["query: Wie hoch ist die Hundesteuer?", "passage: Das Freibad öffnet im Mai."];
    const packed = await client().embeddings.create({ model: EMBEDDING, input });
    const plain = await client().embeddings.create({ model: EMBEDDING, input, encoding_format: "float" });
    expect(packed.data.map(({ index, embedding }) => [index, embedding.length])).toEqual([[0, 384], [1, 384]]);
    packed.data.forEach(({ embedding }, at) => embedding.forEach((number, place) => expect(Math.abs(number - plain.data[at]!.embedding[place]!)).toBeLessThan(1e-4)));
});

test("JavaScript: whoever is told to come again later does so", async () => {
    const asking = (maxRetries: number) => new OpenAI({ apiKey: narrow, baseURL: `${product.origin}/v1`, maxRetries });
    const ask = { model: CHAT, messages: [{ role: "user" as const, content: "Say hello in one word." }], max_tokens: 4 };
    const long = { model: CHAT, messages: [{ role: "user" as const, content: LONG_QUESTION }], max_tokens: 2000, stream: true as const };
    const occupying = await asking(0).chat.completions.create(long);
    await expect(asking(0).chat.completions.create(ask)).rejects.toBeInstanceOf(OpenAI.RateLimitError);
    const leaving = sleep(1_500).then(() => occupying.controller.abort());
    expect((await asking(5).chat.completions.create(ask)).choices).toHaveLength(1);
    await leaving;

    // A call that is cancelled frees its place, although nothing of it was read yet.
    const patience = AbortSignal.timeout(1_500);
    await expect(asking(5).chat.completions.create({ ...long, stream: false }, { signal: patience })).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    expect((await asking(3).chat.completions.create(ask)).choices).toHaveLength(1);
});

/** Runs a program to its end; what it says, with a word more if it failed. */
function report(program: string, args: string[], cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
    return new Promise((done) => {
        execFile(program, args, { env, cwd, maxBuffer: 64 << 20 }, (error, out, err) => done(`${out}${err}${error ? "\nFAILED" : ""}`));
    });
}

/** Python of one of the virtual environments of scripts/setup. */
const pythonOf = (venv: string) =>
    process.env[`KONTOR_${venv.toUpperCase().replace("-", "_")}_PYTHON`] ?? join(cache, "tools", venv, "bin/python");

/** Runs tests in Python; fails with what they say. */
async function pytest(venv: string, ...args: string[]): Promise<void> {
    const env = {
        ...process.env,
        KONTOR_URL: `${product.origin}/v1`,
        KONTOR_KEY: key,
        KONTOR_POOR_KEY: poor,
        KONTOR_NARROW_KEY: narrow,
        KONTOR_FUNCTIONS_KEY: functions,
        KONTOR_GUARDED_KEY: guarded,
        KONTOR_CHAT: CHAT,
        KONTOR_EMBEDDING: EMBEDDING,
        PYTHONDONTWRITEBYTECODE: "1",
        HYPOTHESIS_STORAGE_DIRECTORY: join(product.folder, "hypothesis"),
    };
    const said = await report(pythonOf(venv), ["-m", "pytest", "-q", "--disable-warnings", "-p", "no:cacheprovider", ...args], folder, env);
    expect(said).toMatch(/\d+ passed/);
    expect(said).not.toMatch(/failed|error|skipped|FAILED/);
}

test("Python: OpenAI's own client, Anthropic's, LangChain's and LiteLLM's", async () => {
    test.setTimeout(600_000);
    await pytest("clients", "--ignore", "llamaindex", "--ignore", "test_openapi.py");
});

test("Python: LlamaIndex", async () => {
    test.setTimeout(300_000);
    await pytest("clients-llamaindex", "llamaindex");
});

/** Runs an example of docs/INTEGRATE.md as it stands there. */
function runExample(name: string, run: Run): Promise<string> {
    const program = programOf(name, product.origin, CHAT);
    const { cwd, env: shell } = product.shell();
    // Without it LiteLLM fetches a list of prices from the internet; what Playwright tells its own Node is not for others.
    const env = { ...shell, KONTOR_KEY: run.functions ? functions : key, LITELLM_LOCAL_MODEL_COST_MAP: "True", NODE_OPTIONS: "" };
    switch (run.by) {
        case "shell":
            return report("bash", ["-euo", "pipefail", "-c", program], cwd, env);
        case "node":
            // Where OpenAI's client is.
            return report(process.execPath, ["--input-type=module", "--eval", program], resolve(folder, ".."), env);
        default:
            return report(pythonOf(run.by), ["-c", program], cwd, env);
    }
}

test("docs/INTEGRATE.md: each example is run, or it is said why not", () => {
    const known = [...Object.keys(RUNS), ...Object.keys(NOT_RUN)];
    expect(EXAMPLES.map((example) => example.name).sort(), "say in support/examples.ts how the new example is run").toEqual(known.sort());
});

const RUNNERS: Record<Runner, string> = {
    shell: "a shell",
    node: "JavaScript",
    clients: "Python",
    "clients-llamaindex": "Python with LlamaIndex",
};

for (const [runner, language] of Object.entries(RUNNERS)) {
    test(`docs/INTEGRATE.md: the examples for ${language} work`, async () => {
        test.setTimeout(600_000);
        for (const { name } of EXAMPLES) {
            const run = RUNS[name];
            if (!run || run.by !== runner) continue;
            await test.step(name, async () => {
                const said = await runExample(name, run);
                expect(said, name).not.toMatch(/FAILED$/);
                expect(said, name).toMatch(run.prints);
            });
        }
    });
}

test("a chat by key, without a browser", async () => {
    const headers = { Authorization: `Bearer ${functions}`, "Content-Type": "application/json" };
    const call = async <T>(name: string, body: object): Promise<T> => {
        const answer = await fetch(`${product.origin}/ui/${name}`, { method: "POST", headers, body: JSON.stringify(body) });
        expect(answer.status, `${name}: ${answer.headers.get("content-type")}`).toBe(200);
        expect(answer.headers.get("x-kontor-version")).toBeTruthy();
        return (await answer.json()) as T;
    };
    const turn = { content: "Say hello in one word.", settings: { model: CHAT, sampling: { max_tokens: 8, temperature: 0 } } };
    const started = await call<{ turn: string; conversation: string }>("start_turn", { turn });
    const events = await (await fetch(`${product.origin}/ui/turns/${started.turn}/events`, { headers })).text();
    expect(events).toContain('"type":"end"');
    const view = await call<{ messages: { messages: { content: string }[] } }>("open_conversation", { conversation: started.conversation });
    expect(view.messages.messages[1]!.content).toBeTruthy();
    expect(await call("delete_conversation", { conversation: started.conversation })).toBeNull();
});

test("requests made up from the OpenAPI document: no answer is a 5xx", async () => {
    test.setTimeout(600_000);
    await pytest("clients", "test_openapi.py");
});
