// 30 chats at the same time: everybody gets a whole answer.
import { ok, textOfEvents, turnEvents } from "../support/calls";
import { expect, test } from "../support/fixtures";

const CHATS = 30;

interface Started {
    turn: string;
    conversation: string;
}

test(`${CHATS} concurrent chats finish`, async ({ signedIn: page, product, person }) => {
    test.setTimeout(600_000);
    const settings = { model: null, system_prompt: "", sampling: { max_tokens: 24 } };
    const started = await Promise.all(
        Array.from({ length: CHATS }, (_, index) =>
            ok<Started>(page, "start_turn", {
                turn: { conversation: null, parent: null, content: `Name ${index + 2} animals.`, attachments: [], settings },
            }),
        ),
    );
    const ends = await Promise.all(started.map(({ turn }) => turnEvents(page, turn, undefined, 500_000)));
    for (const events of ends) {
        const last = events.at(-1)!.event;
        expect(last).toMatchObject({ type: "end", status: "complete", error: null });
        expect(textOfEvents(events)).not.toBe("");
    }
    expect(new Set(started.map(({ conversation }) => conversation)).size).toBe(CHATS);
    // Nothing is left running or unsettled.
    await expect.poll(() => product.gauge("kontor_worker_busy"), { timeout: 120_000 }).toBe(0);
    await expect.poll(async () => (await product.ledger(person.email)).open, { timeout: 30_000 }).toBe(0);
    await expect.poll(async () => (await product.ledger(person.email)).settled, { timeout: 30_000 }).toBeGreaterThanOrEqual(CHATS);
});
