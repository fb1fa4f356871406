// The server ends, politely or not, and starts again: history and sessions are intact.
import { expect, hydrated, test } from "../support/fixtures";
import { LONG_QUESTION, SHORT_QUESTION, answering, answerWithMarkers, ask, askAndWait, showsAnswer, wholeAnswer } from "../support/chat";
import { answers, conversations, lastAnswer, message } from "../support/names";

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    test(`after ${signal} and a restart the history is intact`, async ({ signedIn: page, product, guard }) => {
        guard.expect(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|Failed to load resource/);
        const text = await askAndWait(page, SHORT_QUESTION);
        await product.stop(signal);
        await product.launch();
        await page.reload();
        await hydrated(page);
        await expect(answers(page)).toHaveCount(1);
        await showsAnswer(page, text);
        await expect(conversations(page).getByRole("link").first()).toBeVisible();
        await message(page).fill(SHORT_QUESTION);
        await page.keyboard.press("Enter");
        await expect(answers(page)).toHaveCount(2);
        await wholeAnswer(page);
    });
}

test("an answer that the server's end cut off is kept as interrupted", async ({ signedIn: page, product, person, guard }) => {
    guard.expect(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|Failed to load resource/);
    await ask(page, LONG_QUESTION);
    await answering(page, 60);
    const before = await answerWithMarkers(page);
    await product.stop("SIGKILL");
    await product.launch();
    await page.reload();
    await hydrated(page);
    await expect(lastAnswer(page)).toContainText(/interrupted/i, { timeout: 40_000 });
    expect((await answerWithMarkers(page)).slice(0, 20)).toBe(before.slice(0, 20));
    await expect(lastAnswer(page).getByRole("button", { name: "Continue" })).toBeVisible();
    await expect.poll(async () => (await product.ledger(person.email)).open, { timeout: 60_000 }).toBe(0);
});
