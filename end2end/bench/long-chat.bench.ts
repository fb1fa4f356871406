// A chat of 1,000 messages and 500 kB while an answer streams into it, as the browser's own clock sees it.
import type { Browser, Page } from "@playwright/test";
import { ok } from "../support/calls";
import { answering, ask } from "../support/chat";
import { browser as chromium } from "../support/config";
import { expect, hydrated, signIn, test } from "../support/fixtures";
import { answers, message, stop } from "../support/names";
import { PASSWORD } from "../support/product";
import { figure, percentile } from "./figures";

const EMAIL = "user@example.org";
const QUESTION = "Tell me a very long fairy tale about a lighthouse keeper and a whale, with many chapters, headings and dialogues.";
const OBSERVED_MS = 10_000;
const TYPED = "The quick brown fox jumps over the lazy dog.";

test.use({
    // One thread for the model: on a small machine the browser needs a core for itself, as it has on people's desks.
    // A short context: how long the model reads the chat is not what is measured.
    productSettings: { KONTOR__WORKERS__THREADS: "1", KONTOR__WORKERS__CONTEXT_LENGTH: "1024" },
    trace: "off",
    launchOptions: { ...chromium, args: [...chromium.args, "--enable-precise-memory-info"] },
});

interface Observed {
    frames: number[];
    keys: number[];
    nodes: number;
}

/** Measures each frame's work on the main thread and each key's way to the screen, inside the page. */
async function observe(page: Page): Promise<void> {
    await page.evaluate(() => {
        const observed: Observed = { frames: [], keys: [], nodes: 0 };
        (window as unknown as { observed: Observed }).observed = observed;
        /** Runs in the first task after the next frame was painted. */
        const painted = (then: (frameBegan: number) => void) =>
            requestAnimationFrame((frameBegan) => {
                const channel = new MessageChannel();
                channel.port1.onmessage = () => then(frameBegan);
                channel.port2.postMessage(null);
            });
        const frame = () =>
            painted((began) => {
                observed.frames.push(performance.now() - began);
                observed.nodes = Math.max(observed.nodes, document.querySelectorAll("*").length);
                frame();
            });
        frame();
        addEventListener("keydown", (event) => painted(() => observed.keys.push(performance.now() - event.timeStamp)), { capture: true });
    });
}

/** The longest task of the page's main thread, in ms, out of a trace. */
function longestTask(trace: Buffer): number {
    interface Event {
        name: string;
        ph: string;
        dur?: number;
        pid: number;
        tid: number;
        args?: { name?: string };
    }
    const { traceEvents } = JSON.parse(trace.toString()) as { traceEvents: Event[] };
    const main = new Set(traceEvents.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain").map(({ pid, tid }) => `${pid}:${tid}`));
    const tasks = traceEvents.filter(({ name, ph, pid, tid }) => ph === "X" && name === "RunTask" && main.has(`${pid}:${tid}`));
    return Math.max(0, ...tasks.map(({ dur }) => (dur ?? 0) / 1000));
}

/** What happens while an answer streams; `undefined` if the answer was over before the measurement. */
async function whileStreaming(browser: Browser, page: Page): Promise<{ observed: Observed; longest: number } | undefined> {
    await ask(page, QUESTION);
    await answering(page, 10);
    await observe(page);
    await browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "__metadata"] });
    const end = performance.now() + OBSERVED_MS;
    await message(page).click();
    while (performance.now() < end) await page.keyboard.type(TYPED, { delay: 60 });
    const longest = longestTask(await browser.stopTracing());
    const observed = await page.evaluate(() => (window as unknown as { observed: Observed }).observed);
    if (!(await stop(page).isVisible())) return undefined;
    await stop(page).click();
    return { observed, longest };
}

test("a long chat stays smooth while an answer streams", async ({ browser, page, product }) => {
    const { conversation } = await product.admin<{ conversation: string }>(["seed-long-chat", "--email", EMAIL, "--messages", "1000", "--bytes", "500000"]);
    await signIn(page, { email: EMAIL, password: PASSWORD, tenant: "demo" });
    const opened = performance.now();
    await page.goto(`/c/${conversation}`);
    await hydrated(page);
    await expect(answers(page).last()).toBeVisible();
    figure("long chat: open until usable", performance.now() - opened, "ms");

    // Among so many tables a small model would answer with a short one.
    const settings = { model: null, system_prompt: "You are a storyteller. You write nothing but stories, each of at least two thousand words.", sampling: {} };
    await ok(page, "change_conversation", { conversation, change: { title: null, pinned: null, archived: null, settings } });
    await page.reload();
    await hydrated(page);

    let measured = undefined;
    // A small model may be brief; only a measurement with an answer in it from end to end counts.
    for (let tries = 0; tries < 8 && !measured; tries++) measured = await whileStreaming(browser, page);
    if (!measured) throw new Error("no answer was long enough to be measured");
    const { observed, longest } = measured;

    figure("long chat, streaming: longest task", longest, "ms", 50, 1);
    figure("long chat, streaming: frame, 95th percentile", percentile(observed.frames, 0.95), "ms", 16, 1);
    figure("long chat, streaming: key to paint, 95th percentile", percentile(observed.keys, 0.95), "ms", 50, 1);
    figure("long chat, streaming: DOM nodes, most", observed.nodes, "", 3000);

    await scrollToTheTop(page);
    figure("long chat, scrolled to its start: DOM nodes", await page.evaluate(() => document.querySelectorAll("*").length), "", 3000);
    const heap = await page.evaluate(() => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize);
    figure("long chat: JavaScript heap", heap / 1e6, "MB", undefined, 1);
});

/** Scrolls up until the conversation's first message is there. */
async function scrollToTheTop(page: Page): Promise<void> {
    const first = page.getByRole("article", { name: "Question", exact: true }).first();
    let before = "";
    for (let same = 0; same < 5; ) {
        await first.scrollIntoViewIfNeeded();
        await page.mouse.move(640, 400);
        await page.mouse.wheel(0, -4000);
        await page.waitForTimeout(200);
        const now = (await first.textContent()) ?? "";
        same = now === before ? same + 1 : 0;
        before = now;
    }
}
