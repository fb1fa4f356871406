// Money as a person sees it: what an answer cost, what is left, and what is said when nothing is.
import { SHORT_QUESTION, ask, askAndWait } from "../support/chat";
import { expect, hydrated, test } from "../support/fixtures";
import { answers, lastAnswer } from "../support/names";

// A product of its own: prices count for everybody.
test.use({ productSettings: { KONTOR__SERVER__SHUTDOWN_SECONDS: "20" } });

const MODEL = "qwen2.5-coder-0.5b-instruct";

test("a person sees costs and budget, and is told when the budget is used up", async ({ signedIn: page, product, person }) => {
    await product.admin(["set-price", "--model", MODEL, "--currency", "EUR", "--input", "150", "--output", "600"]);
    const mine = ["--tenant", person.tenant, "--level", "user", "--of", person.email, "--currency", "EUR"];
    await product.admin(["add-budget", ...mine, "--amount", "100"]);
    // In force within two seconds.
    await page.waitForTimeout(2_500);
    await askAndWait(page, SHORT_QUESTION);

    await page.goto("/account/usage");
    await hydrated(page);
    const main = page.getByRole("main");
    await expect(main.getByRole("progressbar", { name: "Your budget" })).toBeVisible();
    await expect(main.getByRole("columnheader", { name: "Cost" })).toBeVisible();
    await expect(async () => {
        await page.reload();
        await expect(main).toContainText(/0\.\d+\s?EUR of 100\.00\s?EUR spent/, { timeout: 1_000 });
    }).toPass({ timeout: 15_000 });

    await product.admin(["add-budget", ...mine, "--amount", "0.001"]);
    await page.waitForTimeout(2_500);
    await page.goto("/");
    await hydrated(page);
    await ask(page, SHORT_QUESTION);
    await expect(page.getByText("The budget for this model is used up.")).toBeVisible();
    // Nothing broke, and going on would be refused again.
    await expect(lastAnswer(page)).not.toContainText("interrupted");
    await expect(lastAnswer(page).getByRole("button", { name: "Continue" })).toHaveCount(0);
    // Nothing is charged for a refusal.
    await expect.poll(async () => (await product.ledger(person.email)).open, { timeout: 30_000 }).toBe(0);
    expect(await answers(page).count()).toBe(1);
});
