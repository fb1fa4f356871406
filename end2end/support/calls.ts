// Server functions and plain routes, called as the browser calls them, with the page's session.
import type { APIResponse, Page } from "@playwright/test";

/** Calls a server function; nothing is thrown on a bad status. */
export async function call(page: Page, name: string, input: unknown, timeout = 60_000): Promise<APIResponse> {
    return page.request.post(`/ui/${name}`, {
        data: input as object,
        headers: { "Sec-Fetch-Site": "same-origin", Accept: "application/json" },
        failOnStatusCode: false,
        timeout,
    });
}

/** Calls a server function that must succeed; its output. */
export async function ok<T>(page: Page, name: string, input: unknown): Promise<T> {
    const answer = await call(page, name, input);
    if (!answer.ok()) throw new Error(`${name}: ${answer.status()} ${await answer.text()}`);
    return (await answer.json()) as T;
}

/** One event of a turn with its number. */
export interface Numbered {
    id: number;
    event: TurnEvent;
}

export type TurnEvent =
    | { type: "queued"; place: number }
    | { type: "text"; at: number; text: string }
    | { type: "title"; title: string }
    | { type: "end"; status: string; error: string | null; stats: Record<string, unknown> | null };

/** All events of a turn up to its end. */
export async function turnEvents(page: Page, turn: string, after?: number, timeout = 300_000): Promise<Numbered[]> {
    const answer = await page.request.get(`/ui/turns/${turn}/events`, {
        headers: { Accept: "text/event-stream", ...(after === undefined ? {} : { "Last-Event-ID": String(after) }) },
        timeout,
    });
    if (!answer.ok()) throw new Error(`events of ${turn}: ${answer.status()} ${await answer.text()}`);
    return parseEvents(await answer.text());
}

function parseEvents(body: string): Numbered[] {
    return body
        .split("\n\n")
        .map((block) => {
            const field = (name: string) => block.split("\n").flatMap((line) => (line.startsWith(`${name}:`) ? [line.slice(name.length + 1).trimStart()] : [])).join("\n");
            return { id: Number(field("id")), data: field("data") };
        })
        .filter(({ data }) => data !== "")
        .map(({ id, data }) => ({ id, event: JSON.parse(data) as TurnEvent }));
}

/** The answer's text as the events tell it. */
export function textOfEvents(events: Numbered[]): string {
    let bytes = Buffer.alloc(0);
    for (const { event } of events) {
        if (event.type === "text") bytes = Buffer.concat([bytes.subarray(0, event.at), Buffer.from(event.text)]);
    }
    return bytes.toString();
}
