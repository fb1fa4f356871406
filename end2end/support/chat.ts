// What people do in a chat, in words.
import { expect, type Page } from "@playwright/test";
import { ok } from "./calls";
import { answers, lastAnswer, message, regenerate, send, stop, textOf } from "./names";

/** A question whose answer is long enough to interrupt, on any machine. */
export const LONG_QUESTION = "Count from 1 to 400. Write every number on its own line, without anything else.";
/** A question whose answer is over in a moment. */
export const SHORT_QUESTION = "Reply with the single word: apple";

/** How long a whole answer of the small model may take on a slow machine, which may have other things to do as well. */
export const ANSWER_TIMEOUT = 240_000;

/** Sends a question; does not wait for the answer. */
export async function ask(page: Page, question: string): Promise<void> {
    await message(page).fill(question);
    await send(page).click();
    await expect(message(page)).toHaveValue("");
}

/**
 * Waits until the answer in progress has produced at least `characters`. An answer that the model ended before is made again.
 * For long ones: of a short answer the button Stop may never be seen, see {@link wholeAnswer}.
 */
export async function answering(page: Page, characters = 1): Promise<void> {
    // Looked for often: a short answer is over within a fraction of a second.
    await expect.poll(async () => stop(page).isVisible(), { timeout: 15_000, intervals: [20] }).toBe(true);
    const again = regenerate(lastAnswer(page));
    const length = async () => {
        const made = (await answerWithMarkers(page)).length;
        if (made < characters && (await again.isVisible())) await again.click();
        return made;
    };
    await expect.poll(length, { timeout: ANSWER_TIMEOUT, intervals: [50] }).toBeGreaterThanOrEqual(characters);
}

/** Waits until no answer is being made any more. */
export async function answered(page: Page): Promise<void> {
    await expect(stop(page)).toBeHidden({ timeout: ANSWER_TIMEOUT });
    await expect(lastAnswer(page)).toBeVisible();
}

/** Waits for the whole of the newest answer; its text. The one that is meant must be on the page already, unless it is the first. */
export async function wholeAnswer(page: Page): Promise<string> {
    // Not by the button Stop: a short answer may be over before anybody could see that.
    await expect.poll(async () => (await answerText(page)).length, { timeout: ANSWER_TIMEOUT, intervals: [50] }).toBeGreaterThan(0);
    await answered(page);
    return answerText(page);
}

/** Asks and waits for the whole answer; its text. */
export async function askAndWait(page: Page, question: string): Promise<string> {
    const before = await answers(page).count();
    await ask(page, question);
    await expect(answers(page)).toHaveCount(before + 1);
    return wholeAnswer(page);
}

/** The text of the newest answer as a person reads it. */
export async function answerText(page: Page): Promise<string> {
    const text = textOf(lastAnswer(page));
    return (await text.count()) === 0 ? "" : (await text.innerText()).trim();
}

/**
 * The text of the newest answer in one line, with the numbers and dots of its lists. A browser does not count these as text,
 * and an answer may have nothing else: "1.\n2.\n3." is a list of nothing.
 */
export async function answerWithMarkers(page: Page): Promise<string> {
    const text = textOf(lastAnswer(page));
    if ((await text.count()) === 0) return "";
    return text.evaluate((prose) => {
        const copy = prose.cloneNode(true) as HTMLElement;
        for (const list of copy.querySelectorAll("ol, ul")) {
            const start = list.tagName === "OL" ? (list as HTMLOListElement).start : null;
            [...list.children].forEach((item, at) => item.prepend(start === null ? " \u2022 " : ` ${start + at}. `));
        }
        return (copy.textContent ?? "").replace(/\s+/g, " ").trim();
    });
}

/**
 * Waits until the newest answer reads like `text`, which {@link answerText} gave. Not `toHaveText`: that compares
 * with the text without line breaks between blocks, and an answer may have several paragraphs.
 */
export async function showsAnswer(page: Page, text: string): Promise<void> {
    await expect.poll(() => answerText(page)).toBe(text);
}

interface View {
    messages: { messages: { role: string; content: string; status: string }[] };
}

/** The messages of the conversation shown, as the server has them: their content is the Markdown source. */
export async function storedMessages(page: Page): Promise<View["messages"]["messages"]> {
    const view = await ok<View>(page, "open_conversation", { conversation: conversationId(page) });
    return view.messages.messages;
}

/** The conversation's id out of the address. */
export function conversationId(page: Page): string {
    const id = /\/c\/([0-9a-f-]{36})/.exec(page.url())?.[1];
    if (!id) throw new Error(`no conversation in ${page.url()}`);
    return id;
}
