// German and English are complete: after the switch no page shows the other language.
import type { Page } from "@playwright/test";
import { ok } from "../support/calls";
import { SHORT_QUESTION, askAndWait, conversationId } from "../support/chat";
import { expect, hydrated, test } from "../support/fixtures";

/** English interface words that no German page may show; names of people, models and chats are not among them. */
const ENGLISH = /\b(Send|Stop generating|New chat|Regenerate|Sign out|Save|Delete|Search|Settings|Rename|Archive|Profile|Password|Usage|Prompt history|Today|Yesterday|Show more|Loading|Copy)\b/;

async function interfaceText(page: Page): Promise<string> {
    return page.evaluate(() => {
        const copy = document.body.cloneNode(true) as HTMLElement;
        // What people and models wrote is in any language.
        for (const own of copy.querySelectorAll("article, select, script, style")) own.remove();
        const labels = [...copy.querySelectorAll("[aria-label], [title], [placeholder]")].flatMap((element) =>
            ["aria-label", "title", "placeholder"].map((name) => element.getAttribute(name) ?? ""),
        );
        return `${copy.innerText}\n${labels.join("\n")}`;
    });
}

test("the language is chosen in the profile and holds everywhere", async ({ signedIn: page }) => {
    await askAndWait(page, SHORT_QUESTION);
    // The model's own title might hold an English word.
    await ok(page, "change_conversation", { conversation: conversationId(page), change: { title: "Obst" } });
    await page.goto("/account/profile");
    await hydrated(page);
    await page.getByLabel("Language").selectOption({ label: "Deutsch" });
    await page.getByRole("button", { name: "Save" }).first().click();
    await expect(page.locator("html")).toHaveAttribute("lang", "de");
    await expect(page.getByRole("tab", { name: "Profil" })).toBeVisible();
    for (const path of ["/", "/search?q=apple", "/account/profile", "/account/prompts", "/account/usage", "/account/sessions"]) {
        await page.goto(path);
        await hydrated(page);
        await expect(page.locator("html")).toHaveAttribute("lang", "de");
        const left = ENGLISH.exec(await interfaceText(page));
        expect(left?.[0], `English on ${path}`).toBeUndefined();
    }
    await page.goto("/");
    await expect(page.getByRole("textbox", { name: "Nachricht" })).toBeVisible();
    await expect(page.getByRole("button", { name: "Senden" })).toBeVisible();
});

test.describe("signed out", () => {
    test.use({ locale: "de-DE" });

    test("the browser's language decides", async ({ page, guard }) => {
        void guard;
        await page.goto("/sign-in");
        await expect(page.locator("html")).toHaveAttribute("lang", "de");
        await expect(page.getByRole("button", { name: "Anmelden" })).toBeVisible();
    });

    test("a wrong password is explained in German", async ({ page, guard, person }) => {
        guard.expect(/status of 401/);
        await page.goto("/sign-in");
        await hydrated(page);
        await page.getByLabel("E-Mail").fill(person.email);
        await page.getByLabel("Passwort", { exact: true }).fill("ganz bestimmt falsch");
        await page.getByRole("button", { name: "Anmelden" }).click();
        await expect(page.getByRole("alert")).not.toContainText(/\b(the|wrong|password)\b/i);
    });
});
