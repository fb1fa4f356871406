// Finding, ordering and moving chats: search, rename, pin, archive, delete with undo, export and import.
import { readFile } from "node:fs/promises";
import type { Locator, Page } from "@playwright/test";
import { ok } from "../support/calls";
import { SHORT_QUESTION, answerText, askAndWait, conversationId, showsAnswer, storedMessages } from "../support/chat";
import { expect, hydrated, signIn, test } from "../support/fixtures";
import { answers, chatEntry, conversations } from "../support/names";

/** Opens the menu of a chat in the side bar and chooses an entry. */
async function choose(page: Page, title: string, action: string): Promise<void> {
    const entry = chatEntry(page, title);
    await entry.hover();
    await entry.getByRole("button", { name: /actions|options|menu/i }).click();
    await page.getByRole("menuitem", { name: action }).click();
}

async function rename(page: Page, from: string, to: string): Promise<void> {
    await choose(page, from, "Rename");
    const field = conversations(page).getByRole("textbox", { name: "Title" });
    await field.fill(to);
    await field.press("Enter");
    await expect(chatEntry(page, to)).toBeVisible();
}

/** A chat with this title in the history of the signed-in person. */
async function chat(page: Page, title: string): Promise<string> {
    await page.goto("/");
    await hydrated(page);
    await askAndWait(page, SHORT_QUESTION);
    const id = conversationId(page);
    await ok(page, "change_conversation", { conversation: id, change: { title } });
    await page.reload();
    await hydrated(page);
    await expect(chatEntry(page, title)).toBeVisible();
    return id;
}

async function download(page: Page, click: Locator): Promise<Buffer> {
    const arriving = page.waitForEvent("download");
    await click.click();
    return readFile(await (await arriving).path());
}

test("rename, pin and archive", async ({ signedIn: page }) => {
    await chat(page, "First title");
    await rename(page, "First title", "Better title");
    await page.reload();
    await hydrated(page);
    await expect(chatEntry(page, "Better title")).toBeVisible();

    await choose(page, "Better title", "Pin");
    await expect(conversations(page).getByText("Pinned")).toBeVisible();
    await choose(page, "Better title", "Unpin");
    await expect(conversations(page).getByText("Pinned")).toBeHidden();

    await choose(page, "Better title", "Archive");
    await expect(chatEntry(page, "Better title")).toBeHidden();
    await conversations(page).getByRole("button", { name: /archive/i }).click();
    // A page that is left takes back what it has not sent yet.
    const told = page.waitForResponse((response) => response.url().endsWith("/ui/change_conversation"));
    await choose(page, "Better title", "Take out of the archive");
    await told;
    await page.reload();
    await hydrated(page);
    await expect(chatEntry(page, "Better title")).toBeVisible();
});

test("delete can be undone, and without undo the chat is gone", async ({ signedIn: page }) => {
    const id = await chat(page, "To be deleted");
    await choose(page, "To be deleted", "Delete");
    await expect(chatEntry(page, "To be deleted")).toBeHidden();
    await page.getByRole("button", { name: "Undo" }).click();
    await expect(chatEntry(page, "To be deleted")).toBeVisible();
    await page.goto(`/c/${id}`);
    await hydrated(page);
    await expect(answers(page)).toHaveCount(1);

    // A page that is left takes back what it has not sent yet.
    const told = page.waitForResponse((response) => response.url().endsWith("/ui/delete_conversation"));
    await choose(page, "To be deleted", "Delete");
    await told;
    await page.reload();
    await expect(chatEntry(page, "To be deleted")).toBeHidden();
    expect((await page.request.get(`/c/${id}`, { failOnStatusCode: false })).status()).toBe(404);
});

test("search finds words in all own messages and leads to them", async ({ signedIn: page }) => {
    await page.goto("/");
    await hydrated(page);
    await askAndWait(page, "Reply with the single word: chrysanthemum");
    const id = conversationId(page);
    await page.goto("/");
    await hydrated(page);
    await page.keyboard.press("Control+k");
    const box = page.getByRole("searchbox", { name: /search/i }).last();
    await box.fill("chrysanth");
    await box.press("Enter");
    await expect(page).toHaveURL(/\/search\?q=chrysanth/);
    const hit = page.getByRole("main").getByRole("link").filter({ has: page.locator("mark") }).first();
    await expect(hit.locator("mark").first()).toContainText(/chrysanthemum/i);
    await hit.click();
    await expect(page).toHaveURL(new RegExp(`/c/${id}`));
    await expect(answers(page).or(page.getByRole("article", { name: "Question" })).first()).toBeVisible();

    await page.goto("/search?q=nosuchwordanywhere");
    await expect(page.getByRole("main").locator("mark")).toHaveCount(0);
});

test("a chat is exported as Markdown and JSON, and the JSON comes back by import", async ({ signedIn: page, newPage, newPerson }) => {
    const id = await chat(page, "Travelling chat");
    const text = await answerText(page);
    const source = (await storedMessages(page)).at(-1)!.content;
    const markdown = await (await page.request.get(`/ui/export/conversations/${id}/markdown`)).text();
    expect(markdown).toContain("Travelling chat");
    expect(markdown).toContain(source.trim());

    const entry = chatEntry(page, "Travelling chat");
    await entry.hover();
    await entry.getByRole("button", { name: /actions|options|menu/i }).click();
    const json = await download(page, page.getByRole("menuitem", { name: /JSON/ }));
    expect(JSON.parse(json.toString())).toMatchObject({ schema: "kontor.chat/1" });

    const other = await newPage();
    await signIn(other, await newPerson());
    await other.goto("/account/profile");
    await hydrated(other);
    await other.getByLabel("Export file (JSON)").setInputFiles({ name: "chat.json", mimeType: "application/json", buffer: json });
    await other.getByRole("button", { name: "Import chats" }).click();
    await expect(other.getByText("Imported. Chats: 1, messages: 2")).toBeVisible();
    await expect(chatEntry(other, "Travelling chat")).toBeVisible();
    await chatEntry(other, "Travelling chat").getByRole("link").click();
    await showsAnswer(other, text);
});

test("everything is exported as a ZIP", async ({ signedIn: page }) => {
    await chat(page, "In the archive");
    await page.goto("/account/profile");
    await hydrated(page);
    const zip = await download(page, page.getByRole("link", { name: "Download everything (ZIP)" }));
    expect(zip.subarray(0, 2).toString()).toBe("PK");
    expect(zip.includes(Buffer.from("profile.json"))).toBe(true);
    expect(zip.includes(Buffer.from("usage.csv"))).toBe(true);
});

test("own prompts are listed, searched and used again", async ({ signedIn: page }) => {
    await askAndWait(page, "Reply with the single word: marigold");
    await page.goto("/account/prompts");
    await hydrated(page);
    const main = page.getByRole("main");
    const search = async (words: string) => {
        const field = main.getByRole("searchbox", { name: "Search prompts" });
        await field.fill(words);
        await field.press("Enter");
    };
    // The chat's title may be the very same words, so the row is looked for, not the text.
    const row = main.getByRole("listitem").filter({ hasText: "Reply with the single word: marigold" });
    await expect(row).toHaveCount(1);
    await search("nosuchprompt");
    await expect(main.getByText("Nothing found")).toBeVisible();
    await search("marigold");
    await expect(row).toHaveCount(1);
    await main.getByRole("button", { name: "Use again" }).first().click();
    await expect(page.getByRole("textbox", { name: "Message" })).toHaveValue(/marigold/);
});
