// Everything by keyboard and by screen reader: axe on every page and theme, a whole journey without a mouse.
import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { ok } from "../support/calls";
import { SHORT_QUESTION, answerText, askAndWait, conversationId, wholeAnswer } from "../support/chat";
import { expect, hydrated, test } from "../support/fixtures";
import { accountTab, conversations, message, send } from "../support/names";

const MARKDOWN_QUESTION = "Write a Markdown table with two rows, a bullet list with two entries and a short Rust code block.";

/** No violation of WCAG 2.2 A and AA on the page as it is. */
async function clean(page: Page, what: string): Promise<void> {
    // A colour on its way from one theme to the next has the contrast of neither, and a dialog that is still appearing has less
    // than its own. What never ends is not waited for.
    await page.waitForFunction(() => document.getAnimations().every((running) => running.effect?.getComputedTiming().endTime === Infinity));
    const result = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
    const found = result.violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html }) => `    ${html}`).join("\n")}`);
    expect(found, what).toEqual([]);
}

async function theme(page: Page, name: "light" | "dark" | "contrast"): Promise<void> {
    await ok(page, "change_profile", { profile: { name: "Person", language: "en", theme: name, default_model: null, instructions: "" } });
}

test("axe finds nothing on the sign-in page", async ({ page, guard }) => {
    void guard;
    await page.goto("/sign-in");
    await hydrated(page);
    await clean(page, "sign-in");
    await page.emulateMedia({ colorScheme: "dark" });
    await clean(page, "sign-in, dark");
});

for (const name of ["light", "dark", "contrast"] as const) {
    test(`axe finds nothing on any page, ${name}`, async ({ signedIn: page, guard }) => {
        guard.expect(/status of 404/); // the page that does not exist
        await theme(page, name);
        await page.goto("/");
        await hydrated(page);
        await clean(page, "new chat");
        await askAndWait(page, MARKDOWN_QUESTION);
        const chat = `/c/${conversationId(page)}`;
        for (const path of [chat, "/search?q=table", "/search?q=nosuchword", "/account/profile", "/account/prompts", "/account/usage", "/account/sessions", "/nowhere"]) {
            await page.goto(path);
            await hydrated(page);
            await clean(page, path);
        }
        await page.goto("/");
        await hydrated(page);
        await page.keyboard.press("Escape");
        await page.locator("body").click({ position: { x: 2, y: 2 } });
        await page.keyboard.press("?");
        await expect(page.getByRole("dialog")).toBeVisible();
        await clean(page, "shortcut sheet");
    });
}

test("a whole journey with the keyboard alone", async ({ page, guard, person }) => {
    void guard;
    await page.goto("/sign-in");
    await hydrated(page);
    await page.getByLabel("E-mail").focus();
    await page.keyboard.type(person.email);
    await page.keyboard.press("Tab");
    await page.keyboard.type(person.password);
    await page.keyboard.press("Enter");
    await expect(message(page)).toBeVisible();
    await hydrated(page);

    await page.keyboard.press("/");
    await expect(message(page)).toBeFocused();
    await page.keyboard.type("Reply with two lines,");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("each with one word.");
    await expect(message(page)).toHaveValue("Reply with two lines,\neach with one word.");
    await page.keyboard.press("Enter");
    await wholeAnswer(page);

    await page.keyboard.press("Control+Shift+O");
    await expect(page).toHaveURL(/\/$/);
    await page.keyboard.press("Control+k");
    await expect(page.getByRole("searchbox").last()).toBeFocused();
});

test("focus is visible on everything that Tab reaches, and nothing traps it", async ({ signedIn: page }) => {
    await page.goto("/account/profile");
    await hydrated(page);
    const seen = new Set<string>();
    for (let step = 0; step < 60; step += 1) {
        await page.keyboard.press("Tab");
        const focus = await page.evaluate(() => {
            const element = document.activeElement;
            if (!element || element === document.body) return undefined;
            const style = getComputedStyle(element);
            const box = element.getBoundingClientRect();
            const marked = style.outlineStyle !== "none" || style.boxShadow !== "none";
            return { html: element.outerHTML.slice(0, 160), marked, size: Math.min(box.width, box.height) };
        });
        if (!focus) continue;
        expect(focus.marked, `no visible focus on ${focus.html}`).toBe(true);
        seen.add(focus.html);
    }
    expect(seen.size).toBeGreaterThan(10);
});

test("the skip link leads past the navigation", async ({ signedIn: page }) => {
    await page.goto("/");
    await hydrated(page);
    await page.locator("body").evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
    await page.keyboard.press("Tab");
    const skip = page.getByRole("link", { name: "Skip to content" });
    await expect(skip).toBeFocused();
    await page.keyboard.press("Enter");
    await expect(page.locator("#content")).toBeFocused();
});

test("a live region reads the answer by sentences", async ({ signedIn: page }) => {
    await page.evaluate(() => {
        const heard: string[] = [];
        (window as unknown as { heard: string[] }).heard = heard;
        new MutationObserver(() => {
            for (const region of document.querySelectorAll('[aria-live="polite"], [role="status"], [role="log"]')) {
                const text = region.textContent?.trim() ?? "";
                if (text && heard.at(-1) !== text) heard.push(text);
            }
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await askAndWait(page, "Write three short sentences about bees.");
    const heard = await page.evaluate(() => (window as unknown as { heard: string[] }).heard);
    expect(heard.some((text) => /[.!?]$/.test(text))).toBe(true);
    // By sentence, not by token: far fewer announcements than words.
    expect(heard.length).toBeLessThan((await answerText(page)).split(/\s+/).length);
});

test("the tabs of the account page are tabs", async ({ signedIn: page }) => {
    await page.goto("/account");
    await hydrated(page);
    for (const name of ["Profile", "Prompt history", "Usage", "Sessions"] as const) {
        await accountTab(page, name).click();
        await expect(accountTab(page, name)).toHaveAttribute("aria-selected", "true");
        await expect(page.getByRole("tabpanel")).toBeVisible();
    }
});

test("the names that people's tools rely on are there", async ({ signedIn: page }) => {
    await expect(message(page)).toBeVisible();
    await expect(send(page)).toBeVisible();
    await expect(conversations(page)).toBeVisible();
    await askAndWait(page, SHORT_QUESTION);
    await expect(page.getByRole("article", { name: "Answer", exact: true })).toHaveCount(1);
    await expect(page.getByRole("button", { name: "Regenerate" })).toBeVisible();
});
