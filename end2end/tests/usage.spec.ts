// What the usage tab shows is what the ledger holds.
import { ok } from "../support/calls";
import { SHORT_QUESTION, askAndWait } from "../support/chat";
import { expect, hydrated, test } from "../support/fixtures";
import { accountTab } from "../support/names";

interface Row {
    requests: number;
    prompt_tokens: number;
    cached_tokens: number;
    completion_tokens: number;
    purpose: string;
}

const sum = (rows: Row[], key: "requests" | "prompt_tokens" | "cached_tokens" | "completion_tokens") => rows.reduce((total, row) => total + row[key], 0);

test("the figures of the usage tab equal the ledger's", async ({ signedIn: page, product, person }) => {
    await askAndWait(page, SHORT_QUESTION);
    await askAndWait(page, "And now a pear.");
    // The title is made after the answer and is part of the bill.
    await expect.poll(async () => (await product.ledger(person.email)).settled, { timeout: 60_000 }).toBeGreaterThanOrEqual(3);
    await expect.poll(async () => (await product.ledger(person.email)).open, { timeout: 30_000 }).toBe(0);
    const ledger = await product.ledger(person.email);
    expect(ledger.completion_tokens).toBeGreaterThan(0);

    const today = new Date().toISOString().slice(0, 10);
    const report = await ok<{ rows: Row[] }>(page, "usage_report", { range: { from: today, to: today } });
    expect(sum(report.rows, "requests")).toBe(ledger.settled);
    expect(sum(report.rows, "prompt_tokens")).toBe(ledger.prompt_tokens);
    expect(sum(report.rows, "cached_tokens")).toBe(ledger.cached_tokens);
    expect(sum(report.rows, "completion_tokens")).toBe(ledger.completion_tokens);
    expect(new Set(report.rows.map(({ purpose }) => purpose))).toEqual(new Set(["chat", "title"]));

    await page.goto("/account/usage");
    await hydrated(page);
    await expect(accountTab(page, "Usage")).toHaveAttribute("aria-selected", "true");
    const shown = (number: number) => number.toLocaleString("en-US");
    const main = page.getByRole("main");
    await expect(main).toContainText(shown(ledger.prompt_tokens));
    await expect(main).toContainText(shown(ledger.completion_tokens));

    const csv = await (await page.request.get(`/ui/export/usage.csv?from=${today}&to=${today}`)).text();
    const [head, ...lines] = csv.trim().split(/\r?\n/);
    const column = head!.split(",").indexOf("completion_tokens");
    expect(column).toBeGreaterThan(0);
    expect(lines.reduce((total, line) => total + Number(line.split(",")[column]), 0)).toBe(ledger.completion_tokens);
});

test("a person who asked nothing has an empty usage tab, not a broken one", async ({ signedIn: page }) => {
    await page.goto("/account/usage");
    await hydrated(page);
    await expect(page.getByRole("main")).toContainText("Nothing used");
});
