// The official clients of OpenAI's API against the built product: base URL and key changed, nothing else.
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@playwright/test";
import OpenAI from "openai";
import { Product, SMALL_MODEL } from "../support/product";

const folder = resolve(dirname(fileURLToPath(import.meta.url)), "../clients");
const cache = process.env.KONTOR_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kontor");
const CHAT = "qwen2.5-coder-0.5b-instruct";
const EMBEDDING = "multilingual-e5-small";

let product: Product;
let key: string;

test.beforeAll(async () => {
    test.setTimeout(120_000);
    product = await Product.prepare();
    const models = [
        `[[models.offered]]\nid = "${CHAT}"\npath = "${join(cache, "models", SMALL_MODEL)}"`,
        `[[models.offered]]\nid = "${EMBEDDING}"\nkind = "embedding"\npath = "${join(cache, "models", "multilingual-e5-small-q4_0.gguf")}"`,
    ];
    writeFileSync(join(product.folder, "kontor.toml"), `${models.join("\n\n")}\n`);
    await product.launch();
    await product.admin(["create-service-account", "--tenant", "demo", "--name", "Contract tests", "--purpose", "Proves that clients work"]);
    ({ key } = await product.admin<{ key: string }>(["create-key", "--tenant", "demo", "--account", "Contract tests"]));
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
    const account = async (name: string) => {
        await product.admin(["create-service-account", "--tenant", "demo", "--name", name, "--purpose", "Has little"]);
        return (await product.admin<{ key: string }>(["create-key", "--tenant", "demo", "--account", name])).key;
    };
    const [poor, slow] = [await account("Poor"), await account("Slow")];
    await product.admin(["set-price", "--model", CHAT, "--currency", "EUR", "--input", "0.15", "--output", "0.60"]);
    const whose = (name: string) => ["--tenant", "demo", "--level", "service-account", "--of", name];
    await product.admin(["add-budget", ...whose("Poor"), "--amount", "0.000001", "--currency", "EUR"]);
    await product.admin(["add-limit", ...whose("Slow"), "--requests", "1"]);
    const ask = { model: CHAT, messages: [{ role: "user" as const, content: "Say hello in one word." }], max_tokens: 8 };
    let requests = 0;
    const counting: typeof fetch = (...call) => {
        requests += 1;
        return fetch(...call);
    };
    // Changes are in force within two seconds.
    const retrying = new OpenAI({ apiKey: poor, baseURL: `${product.origin}/v1`, maxRetries: 2, fetch: counting });
    await expect(async () => {
        requests = 0;
        await expect(retrying.chat.completions.create(ask)).rejects.toMatchObject({ status: 429, code: "insufficient_quota", type: "insufficient_quota" });
    }).toPass({ timeout: 10_000 });
    expect(requests).toBe(1);

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
    await expect.poll(() => product.gauge("kontor_worker_busy"), { timeout: 2_000 }).toBe(0);
});

test("Python: OpenAI's own client, and LangChain's", async () => {
    test.setTimeout(300_000);
    const python = process.env.KONTOR_CLIENTS_PYTHON ?? join(cache, "tools/clients/bin/python");
    const env = { ...process.env, KONTOR_URL: `${product.origin}/v1`, KONTOR_KEY: key, KONTOR_CHAT: CHAT, KONTOR_EMBEDDING: EMBEDDING, PYTHONDONTWRITEBYTECODE: "1" };
    const report = await new Promise<string>((done) => {
        execFile(python, ["-m", "pytest", "-q", "-p", "no:cacheprovider", folder], { env, cwd: folder }, (error, out, err) => done(`${out}${err}${error ? "\nFAILED" : ""}`));
    });
    expect(report).toMatch(/\d+ passed/);
    expect(report).not.toMatch(/failed|error|skipped|FAILED/);
});
