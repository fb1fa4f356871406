// First sign-in → question → streamed answer → reload in mid-stream → the same text.
import { expect, hydrated, signIn, test } from "../support/fixtures";
import { ANSWER_TIMEOUT, LONG_QUESTION, SHORT_QUESTION, answered, answering, answerText, ask, askAndWait, conversationId, showsAnswer, storedMessages, wholeAnswer } from "../support/chat";
import { ok } from "../support/calls";
import { answers, conversations, lastAnswer, message, newChat, questions, regenerate, send, stop } from "../support/names";
import { PASSWORD } from "../support/product";

test("the first sign-in leads to a streamed answer", async ({ page, guard }) => {
    void guard;
    await page.goto("/");
    await expect(page).toHaveURL(/\/sign-in/);
    await signIn(page, { email: "user@example.org", password: PASSWORD, tenant: "demo" });
    await ask(page, SHORT_QUESTION);
    await expect(questions(page).last()).toContainText(SHORT_QUESTION);
    await wholeAnswer(page);
    await expect(page).toHaveURL(/\/c\/[0-9a-f-]{36}/);
    await expect(conversations(page).getByRole("link").first()).toBeVisible();
});

test("a wrong password is refused without saying which half was wrong", async ({ page, guard, person }) => {
    guard.expect(/status of 401/);
    await page.goto("/sign-in");
    await hydrated(page);
    await page.getByLabel("E-mail").fill(person.email);
    await page.getByLabel("Password", { exact: true }).fill("something else entirely");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert")).toBeVisible();
    await expect(page).toHaveURL(/\/sign-in/);
});

test("an answer arrives piece by piece", async ({ signedIn: page }) => {
    await ask(page, LONG_QUESTION);
    await answering(page, 10);
    const lengths = new Set<number>();
    await expect
        .poll(async () => lengths.add((await answerText(page)).length).size, { timeout: 30_000, intervals: [100] })
        .toBeGreaterThan(4);
    await stop(page).click();
    await answered(page);
});

test("a reload in mid-stream and a second tab show the same final text", async ({ signedIn: page, context }) => {
    test.slow(); // all of a long answer
    await ask(page, LONG_QUESTION);
    await answering(page, 80);
    const before = await answerText(page);
    const id = conversationId(page);
    const second = await context.newPage();
    await second.goto(`/c/${id}`);
    await page.reload();
    await hydrated(page);
    // The answer is there at once and goes on; nothing of it is lost.
    await answering(page, before.length);
    await answered(page);
    await expect(stop(second)).toBeHidden({ timeout: ANSWER_TIMEOUT });
    const [first, other] = [await answerText(page), await answerText(second)];
    expect(other).toBe(first);
    expect(first.startsWith(before.slice(0, -20))).toBe(true);
    expect((await storedMessages(page)).at(-1)!.status).toBe("complete");
    // What was put together from pieces reads like what is stored.
    await page.reload();
    await hydrated(page);
    await showsAnswer(page, first);
    await second.close();
});

test.describe("with the network complaining", () => {
    // `Failed to fetch`: a part of the page whose code was to be loaded just then.
    test.beforeEach(({ guard }) => guard.expect(/ERR_INTERNET_DISCONNECTED|Failed to load resource|Failed to fetch/));

    test("a lost connection is picked up where it was", async ({ signedIn: page, context }) => {
        test.slow(); // all of a long answer
        await ask(page, LONG_QUESTION);
        await answering(page, 40);
        await context.setOffline(true);
        await page.waitForTimeout(2_000);
        await context.setOffline(false);
        await answered(page);
        const shown = await answerText(page);
        await page.reload();
        await hydrated(page);
        await showsAnswer(page, shown);
    });

    test("a question that could not be sent is not lost", async ({ signedIn: page, context }) => {
        await context.setOffline(true);
        await message(page).fill("Keep me");
        await send(page).click();
        await expect(page.getByRole("alert")).toBeVisible();
        await expect(message(page)).toHaveValue("Keep me");
        await context.setOffline(false);
        await send(page).click();
        await answering(page);
    });
});

test("an edited question makes a branch, and there is a way back", async ({ signedIn: page }) => {
    const first = await askAndWait(page, SHORT_QUESTION);
    await questions(page).last().getByRole("button", { name: "Edit" }).click();
    const editor = questions(page).last().getByRole("textbox");
    await editor.fill("Reply with the single word: banana");
    await questions(page).last().getByRole("button", { name: "Send" }).click();
    // Until then the answer on the page is the first one.
    await expect(questions(page).last()).toContainText("banana");
    await wholeAnswer(page);
    await questions(page).last().getByRole("button", { name: "Previous branch" }).click();
    await expect(questions(page).last()).toContainText("apple");
    await showsAnswer(page, first);
    await questions(page).last().getByRole("button", { name: "Next branch" }).click();
    await expect(questions(page).last()).toContainText("banana");
});

test("regenerate makes a second answer beside the first", async ({ signedIn: page }) => {
    await askAndWait(page, SHORT_QUESTION);
    await regenerate(lastAnswer(page)).click();
    // Until then the answer on the page is the first one.
    await expect(lastAnswer(page)).toContainText("2/2", { timeout: ANSWER_TIMEOUT });
    await wholeAnswer(page);
    await expect(answers(page)).toHaveCount(1);
});

test("an answer can be copied, rated and looked into", async ({ signedIn: page, context }) => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await askAndWait(page, "Count from 1 to 10."); // one token alone has no speed
    const answer = lastAnswer(page);
    await answer.getByRole("button", { name: "Copy as Markdown", exact: true }).click();
    const { content } = (await storedMessages(page)).at(-1)!;
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe(content);
    await answer.getByRole("button", { name: "Good answer" }).click();
    await expect(answer.getByRole("button", { name: "Good answer" })).toHaveAttribute("aria-pressed", "true");
    await page.reload();
    await hydrated(page);
    await expect(lastAnswer(page).getByRole("button", { name: "Good answer" })).toHaveAttribute("aria-pressed", "true");
    await lastAnswer(page).getByRole("button", { name: "Tokens and speed" }).click();
    await expect(page.getByText(/tokens\/s/i)).toBeVisible();
});

test("a long paste becomes an attachment", async ({ signedIn: page, context }) => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const text = "A line of a long log file.\n".repeat(400);
    await page.evaluate((pasted) => navigator.clipboard.writeText(pasted), text);
    await message(page).focus();
    await page.keyboard.press("Control+V");
    await expect(message(page)).toHaveValue("");
    await expect(page.getByRole("button", { name: /^Remove / })).toBeVisible();
    await message(page).fill("Say ok.");
    await send(page).click();
    await expect(questions(page).last()).toContainText(/\.txt/);
    await stop(page).click({ timeout: 60_000 });
});

test("a temporary chat leaves nothing behind", async ({ signedIn: page }) => {
    await page.getByRole("button", { name: "Temporary chat" }).click();
    const secret = "canary-7d1f";
    await askAndWait(page, `Reply with the single word: ${secret}`);
    await expect(page).toHaveURL(/\/$/);
    const found = await ok<{ items: unknown[] }>(page, "search_messages", { query: secret, cursor: null });
    expect(found.items).toEqual([]);
    const listed = await ok<{ items: unknown[] }>(page, "list_conversations", { archived: false, cursor: null });
    expect(listed.items).toEqual([]);
});

test("a new chat starts empty, and the old one is one click away", async ({ signedIn: page }) => {
    const first = await askAndWait(page, SHORT_QUESTION);
    await newChat(page).click();
    await expect(answers(page)).toHaveCount(0);
    await expect(page).toHaveURL(/\/$/);
    await conversations(page).getByRole("link").filter({ hasNotText: "New chat" }).first().click();
    await showsAnswer(page, first);
});

test("who goes on while a chat is being loaded ends up where they went", async ({ signedIn: page }) => {
    const first = await askAndWait(page, SHORT_QUESTION);
    const old = conversations(page).getByRole("link").first();
    await newChat(page).click();
    await expect(answers(page)).toHaveCount(0);
    // The server takes its time for every chat that is opened from now on.
    let opened = 0;
    await page.route("**/ui/open_conversation", async (route) => {
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        await route.continue();
        opened += 1;
    });
    await old.click();
    await expect(page).toHaveURL(/\/c\//);
    await newChat(page).click();
    await expect.poll(() => opened).toBe(1);
    await page.waitForTimeout(500);
    await expect(answers(page)).toHaveCount(0);
    await expect(message(page)).toBeVisible();
    // There and back and there again: the chat, not a skeleton for ever.
    await old.click();
    await newChat(page).click();
    await old.click();
    await expect(answers(page)).toHaveCount(1);
    await showsAnswer(page, first);
});
