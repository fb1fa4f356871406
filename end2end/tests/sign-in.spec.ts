// Signing in before the interface's code has arrived, and where it never does: the form is a form.
import type { Page } from "@playwright/test";
import { expect, hydrated, type Person, test } from "../support/fixtures";
import { message } from "../support/names";

const WRONG = "E-mail or password is not right.";

const email = (page: Page) => page.getByLabel("E-mail");
const password = (page: Page) => page.getByLabel("Password", { exact: true });

async function enter(page: Page, person: Person): Promise<void> {
    await email(page).fill(person.email);
    await password(page).fill(person.password);
}

test.describe("without JavaScript", () => {
    test.use({ javaScriptEnabled: false });

    test.beforeEach(({ guard }) => {
        // The page asks for its code early, and nothing runs that would use it.
        guard.expect(/was preloaded/);
    });

    test("a person signs in and sees the chat", async ({ page, person }) => {
        await page.goto("/sign-in");
        await enter(page, person);
        await page.getByRole("button", { name: "Sign in" }).click();
        await expect(page).toHaveURL(/:\d+\/$/);
        await expect(message(page)).toBeVisible();
        const cookies = await page.context().cookies();
        expect(cookies.find(({ name }) => name === "kontor_session")).toMatchObject({ httpOnly: true, sameSite: "Lax" });
    });

    test("a wrong password is explained, and the right one leads to the page that was wanted", async ({ page, guard, person }) => {
        guard.expect(/status of 401/);
        await page.goto("/account/usage");
        await expect(page).toHaveURL(/\/sign-in\?next=/);
        await enter(page, { ...person, password: "surely not this one" });
        await password(page).press("Enter");
        await expect(page.getByRole("alert")).toContainText(WRONG);
        await expect(page).toHaveURL(/\/sign-in\?next=/);
        await expect(email(page)).toHaveValue(person.email);
        await expect(password(page)).toHaveValue("");
        await password(page).fill(person.password);
        await password(page).press("Enter");
        await expect(page).toHaveURL(/\/account\/usage$/);
        await expect(page.getByRole("main")).toContainText("Nothing used");
    });

    test("the browser itself says that a field is empty", async ({ page, person }) => {
        await page.goto("/sign-in");
        await email(page).fill(person.email);
        await page.getByRole("button", { name: "Sign in" }).click();
        await expect(password(page)).toBeFocused();
        await expect(page.getByRole("alert")).toHaveCount(0);
    });
});

test.describe("while the code is on its way", () => {
    /** Lets the code come, of this page and of those after it. */
    let arrive: () => void;

    test.beforeEach(async ({ page, guard }) => {
        // A page that is left gives up fetching its code.
        guard.expect(/Failed to fetch|aborted/i);
        const arrived = new Promise<void>((resolve) => {
            arrive = resolve;
        });
        await page.route(/\.wasm$/, async (route) => {
            await arrived;
            await route.continue();
        });
    });

    test.afterEach(async ({ page }) => {
        // The chat fetches further parts of the code when it has the time; nobody waits for those.
        await page.unrouteAll({ behavior: "ignoreErrors" });
    });

    /** The page as it comes from the server, a moment after it was asked for. */
    async function open(page: Page): Promise<void> {
        await page.goto("/sign-in", { waitUntil: "commit" });
        await expect(page.getByRole("button", { name: "Sign in" })).toBeEnabled();
    }

    async function notYetTakenOver(page: Page): Promise<void> {
        expect(await page.locator("html[data-hydrated]").count(), "the code was here too early for this journey").toBe(0);
    }

    test("what was typed before stays, and is gone on with", async ({ page, person }) => {
        await open(page);
        const half = Math.floor(person.password.length / 2);
        await email(page).fill(person.email);
        await password(page).pressSequentially(person.password.slice(0, half));
        await notYetTakenOver(page);
        arrive();
        await hydrated(page);
        await expect(email(page)).toHaveValue(person.email);
        await expect(password(page)).toHaveValue(person.password.slice(0, half));
        await expect(password(page)).toBeFocused();
        await password(page).pressSequentially(person.password.slice(half));
        await password(page).press("Enter");
        await expect(message(page)).toBeVisible();
        await hydrated(page);
    });

    for (const [how, send] of [
        ["Enter", (page: Page) => password(page).press("Enter")],
        ["a click", (page: Page) => page.getByRole("button", { name: "Sign in" }).click()],
    ] as const) {
        test(`${how} signs in at once`, async ({ page, person }) => {
            await open(page);
            await enter(page, person);
            await notYetTakenOver(page);
            const sent = page.waitForRequest((request) => request.method() === "POST");
            await send(page);
            expect(new URL((await sent).url()).pathname, "the browser's own form").toBe("/sign-in");
            await expect(message(page)).toBeVisible();
            arrive();
            await hydrated(page);
        });
    }

    test("a wrong password is explained, also once the code is here, and the right one signs in", async ({ page, guard, person }) => {
        guard.expect(/status of 401/);
        await open(page);
        await enter(page, { ...person, password: "surely not this one" });
        await notYetTakenOver(page);
        await password(page).press("Enter");
        await expect(page.getByRole("alert")).toContainText(WRONG);
        await notYetTakenOver(page);
        await password(page).fill(person.password);
        arrive();
        await hydrated(page);
        await expect(page.getByRole("alert")).toContainText(WRONG);
        await expect(email(page)).toHaveValue(person.email);
        await expect(password(page)).toHaveValue(person.password);
        await page.getByRole("button", { name: "Sign in" }).click();
        await expect(message(page)).toBeVisible();
        await hydrated(page);
    });
});
