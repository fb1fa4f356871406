// What an organisation does not allow: the chat says so, and the model never sees it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SHORT_QUESTION, ask, askAndWait } from "../support/chat";
import { expect, signIn, test } from "../support/fixtures";
import { answers, lastAnswer } from "../support/names";

const RULES = {
    rules: [{ name: "accounts", check: { kind: "pii", entities: ["iban"] }, on: ["input"], action: "block" }],
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
    const ledger = await product.ledger(person.email);
    expect(ledger.open + ledger.settled).toBe(0);

    await askAndWait(page, SHORT_QUESTION);
    await expect(answers(page)).toHaveCount(2);
});
