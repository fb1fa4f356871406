// A worker killed in mid-answer costs one answer's rest, nothing else.
import { expect, test } from "../support/fixtures";
import { LONG_QUESTION, answered, answering, answerText, ask } from "../support/chat";
import { lastAnswer, stop } from "../support/names";
import { until } from "../support/product";

test("SIGKILL in mid-answer: interrupted, settled, back in less than 10 s, Continue works", async ({ signedIn: page, product, person }) => {
    await ask(page, LONG_QUESTION);
    await answering(page, 40);
    const [worker, ...more] = product.workers();
    expect(more).toEqual([]);
    process.kill(worker!, "SIGKILL");
    const killed = performance.now();

    await answered(page);
    const kept = await answerText(page);
    expect(kept).not.toBe("");
    await expect(lastAnswer(page)).toContainText(/interrupted/i);
    const goOn = lastAnswer(page).getByRole("button", { name: "Continue" });
    await expect(goOn).toBeVisible();

    await until("another worker is ready", 10_000, async () => {
        const now = product.workers();
        return now.length === 1 && now[0] !== worker && (await product.gauge("kontor_worker_ready")) === 1 && (await product.isReady());
    });
    expect(performance.now() - killed).toBeLessThan(10_000);

    await expect.poll(async () => (await product.ledger(person.email)).open, { timeout: 10_000 }).toBe(0);
    const ledger = await product.ledger(person.email);
    expect(ledger.settled).toBeGreaterThanOrEqual(1);
    expect(ledger.completion_tokens).toBeGreaterThan(0);

    await goOn.click();
    await answering(page, kept.length + 20);
    await stop(page).click();
    await answered(page);
    expect((await answerText(page)).startsWith(kept.slice(0, -5))).toBe(true);
});
