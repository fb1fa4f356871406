// What an organisation does not allow: the chat says so, and the model never sees it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SHORT_QUESTION, ask, askAndWait } from "../support/chat";
import { expect, hydrated, signIn, test } from "../support/fixtures";
import { answers, conversations, lastAnswer, newChat } from "../support/names";

const RULES = {
    rules: [
        { name: "accounts", check: { kind: "pii", entities: ["iban"] }, on: ["input"], action: "block" },
        { name: "fruit", check: { kind: "words", words: ["apple"] }, on: ["input"], action: "warn" },
    ],
};

test("a question with an account number is refused, and the next one is answered", async ({ newPerson, newPage, product }) => {
    const tenant = `guarded-${Date.now()}`;
    await product.admin(["create-tenant", "--slug", tenant, "--name", "Guarded"]);
    const file = join(product.folder, "rules.json");
    writeFileSync(file, JSON.stringify(RULES));
    await product.admin(["set-guardrails", "--tenant", tenant, "--file", file]);
    const person = await newPerson(tenant);
    const page = await newPage();
    await signIn(page, person);

    await ask(page, "Is DE89 3704 0044 0532 0130 00 a valid account?");
    await expect(lastAnswer(page)).toContainText("A rule of your organisation does not allow this content.");
    await expect(lastAnswer(page)).not.toContainText("interrupted");
    await expect(lastAnswer(page).getByRole("button", { name: "Continue" })).toHaveCount(0);
    // What must not reach the model is not for the side bar either, and of a refusal there is nothing to copy or to rate.
    await expect(conversations(page).getByRole("link", { name: "Untitled" })).toBeVisible();
    await expect(conversations(page)).not.toContainText("DE89");
    for (const name of ["Copy as Markdown", "Good answer", "Bad answer"]) {
        await expect(lastAnswer(page).getByRole("button", { name })).toHaveCount(0);
    }
    const ledger = await product.ledger(person.email);
    expect(ledger.open + ledger.settled).toBe(0);

    await askAndWait(page, SHORT_QUESTION);
    await expect(answers(page)).toHaveCount(2);
    await expect(conversations(page).getByRole("link", { name: "Untitled" })).toHaveCount(0);
    await expect(lastAnswer(page).getByRole("note")).toContainText("rule: fruit");
    await page.reload();
    await hydrated(page);
    await expect(lastAnswer(page).getByRole("note")).toContainText("rule: fruit");
    await newChat(page).click();
    await expect(answers(page)).toHaveCount(0);
    await askAndWait(page, "Reply with the single word: pear");
    await expect(lastAnswer(page).getByRole("note")).toHaveCount(0);
});
