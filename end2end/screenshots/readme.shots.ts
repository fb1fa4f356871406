// The pictures of README.md, taken of the real product with the default model.
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "@playwright/test";
import { ok } from "../support/calls";
import { askAndWait } from "../support/chat";
import { hydrated, signIn, test } from "../support/fixtures";
import { DEFAULT_MODEL, PASSWORD } from "../support/product";

const folder = resolve(dirname(fileURLToPath(import.meta.url)), "../../docs/images");

test.use({ productModel: DEFAULT_MODEL });

const QUESTIONS = [
    "Compare Rust and Go for a command line tool. Use a table with three rows, then give a short Rust example with code.",
    "Show a short Rust function that checks a password against an argon2 hash, with a sentence on how it works.",
];

async function shot(page: Page, name: string): Promise<void> {
    await page.mouse.move(0, 0);
    await page.waitForTimeout(500); // transitions
    await page.screenshot({ path: resolve(folder, `${name}.png`) });
}

async function profile(page: Page, language: "en" | "de", theme: "light" | "dark"): Promise<void> {
    await ok(page, "change_profile", { profile: { name: "Alex", language, theme, default_model: null, instructions: "" } });
}

test("pictures", async ({ page }) => {
    test.setTimeout(900_000);
    await page.goto("/sign-in");
    await hydrated(page);
    await shot(page, "sign-in");
    await signIn(page, { email: "user@example.org", password: PASSWORD, tenant: "demo" });
    await profile(page, "en", "light");
    const chats: string[] = [];
    for (const question of QUESTIONS) {
        await page.goto("/");
        await hydrated(page);
        await askAndWait(page, question);
        chats.push(page.url());
    }
    const [table, code] = [chats[0]!, chats[1]!];
    const open = async (path: string, name: string) => {
        await page.goto(path);
        await hydrated(page);
        const messages = page.getByRole("region", { name: /^(Messages|Nachrichten)$/ });
        if (await messages.isVisible()) {
            // A chat opens at its end; a picture should begin with the question.
            await page.waitForTimeout(500);
            await messages.evaluate((frame) => frame.scrollTo(0, 0));
        }
        await shot(page, name);
    };
    await page.waitForTimeout(5_000); // the last chat's title
    await open(table, "chat");
    await open("/account/usage", "usage");
    await open("/search?q=rust", "search");
    await profile(page, "de", "dark");
    await open(code, "chat-dark-german");
    await page.setViewportSize({ width: 390, height: 844 });
    await open(table, "phone");
});
