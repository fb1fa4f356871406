// Two people of two tenants, and two of the same one, never see anything of each other, also by guessing ids.
import type { Page } from "@playwright/test";
import { call, ok } from "../support/calls";
import { askAndWait, conversationId } from "../support/chat";
import { expect, type Person, signIn, test } from "../support/fixtures";
import { answers, conversations } from "../support/names";

const SECRET = "heliotrope";

interface View {
    conversation: { title: string };
    messages: { messages: { id: string; role: string; attachments: { id: string }[] }[] };
}

interface Things {
    conversation: string;
    question: string;
    answer: string;
    attachment: string;
    turn: string;
    session: string;
}

/** Gives the person a chat with everything in it that has an id. */
async function things(page: Page): Promise<Things> {
    await askAndWait(page, `Reply with the single word: ${SECRET}`);
    const conversation = conversationId(page);
    const leaf = (await ok<View>(page, "open_conversation", { conversation })).messages.messages.at(-1)!;
    const started = await ok<{ turn: string; question: { id: string }; answer: { id: string } }>(page, "start_turn", {
        turn: {
            conversation,
            parent: leaf.id,
            content: `Say ${SECRET} again.`,
            attachments: [{ name: "notes.txt", content: SECRET }],
            settings: null,
        },
    });
    await page.request.get(`/ui/turns/${started.turn}/events`, { timeout: 120_000 });
    const messages = (await ok<View>(page, "open_conversation", { conversation })).messages.messages;
    const question = messages.find(({ id }) => id === started.question.id)!;
    const sessions = await ok<{ id: string }[]>(page, "list_sessions", {});
    return {
        conversation,
        question: question.id,
        answer: started.answer.id,
        attachment: question.attachments[0]!.id,
        turn: started.turn,
        session: sessions[0]!.id,
    };
}

/** Every way to name somebody's thing: server function and input. */
function attempts(their: Things): [string, unknown][] {
    const { conversation, question, answer, attachment, turn, session } = their;
    const content = "x";
    return [
        ["open_conversation", { conversation }],
        ["earlier_messages", { conversation, before: answer }],
        ["open_message", { conversation, message: answer }],
        ["change_conversation", { conversation, change: { title: "mine now" } }],
        ["delete_conversation", { conversation }],
        ["restore_conversation", { conversation }],
        ["select_branch", { message: answer }],
        ["rate_answer", { message: answer, rating: { value: "up", comment: "" } }],
        ["read_attachment", { attachment }],
        ["start_turn", { turn: { conversation, parent: answer, content, attachments: [], settings: null } }],
        ["start_turn", { turn: { conversation, parent: question, content, attachments: [], settings: null } }],
        ["regenerate_answer", { answer }],
        ["continue_answer", { answer }],
        ["stop_turn", { turn }],
        ["revoke_session", { session }],
    ];
}

/** Plain routes that name somebody's thing. */
const routes = ({ conversation, turn }: Things) => [
    `/ui/turns/${turn}/events`,
    `/ui/export/conversations/${conversation}/markdown`,
    `/ui/export/conversations/${conversation}/json`,
];

async function seesNothing(page: Page, their: Things): Promise<void> {
    for (const [name, input] of attempts(their)) {
        const answer = await call(page, name, input);
        const text = await answer.text();
        expect(answer.status(), `${name}: somebody else's object is not found, never forbidden (${text})`).toBe(404);
        expect(text, name).not.toContain(SECRET);
    }
    for (const path of routes(their)) {
        const answer = await page.request.get(path, { failOnStatusCode: false });
        expect(answer.status(), path).toBe(404);
        expect(await answer.text(), path).not.toContain(SECRET);
    }
    for (const list of [
        await call(page, "list_conversations", { archived: false, cursor: null }),
        await call(page, "list_conversations", { archived: true, cursor: null }),
        await call(page, "search_messages", { query: SECRET, cursor: null }),
        await call(page, "list_prompts", { filter: { query: SECRET }, cursor: null }),
        await call(page, "list_prompts", { filter: { conversation: their.conversation }, cursor: null }),
        await page.request.get("/ui/export/everything"),
        await page.request.get(`/c/${their.conversation}`, { failOnStatusCode: false }),
    ]) {
        expect(list.status(), list.url()).toBeLessThan(500);
        expect(await list.text(), list.url()).not.toContain(SECRET);
    }
}

async function pair(owner: Page, newPage: () => Promise<Page>, stranger: Person): Promise<void> {
    const their = await things(owner);
    const other = await newPage();
    await signIn(other, stranger);
    await seesNothing(other, their);
    await expect(conversations(other)).not.toContainText(SECRET);
    // Nothing of what the stranger tried has done anything.
    const view = await ok<View>(owner, "open_conversation", { conversation: their.conversation });
    expect(view.conversation.title).not.toBe("mine now");
    expect((await ok<unknown[]>(owner, "list_sessions", {})).length).toBe(1);
    await owner.reload();
    await expect(answers(owner)).not.toHaveCount(0);
}

test("people of two tenants see nothing of each other", async ({ signedIn, product, newPage, newPerson }) => {
    const slug = `other-${process.pid}-${Date.now()}`;
    await product.admin(["create-tenant", "--slug", slug, "--name", "Another organisation"]);
    await pair(signedIn, newPage, await newPerson(slug));
});

test("people of one tenant see nothing of each other", async ({ signedIn, newPage, newPerson }) => {
    await pair(signedIn, newPage, await newPerson());
});

test("an administrator of the tenant does not read chats either", async ({ signedIn, newPage }) => {
    const { PASSWORD } = await import("../support/product");
    await pair(signedIn, newPage, { email: "admin@example.org", password: PASSWORD, tenant: "demo" });
});

test("nobody gets anything without signing in", async ({ page, guard, newPage, newPerson }) => {
    void guard;
    const owner = await newPage();
    await signIn(owner, await newPerson());
    const their = await things(owner);
    for (const [name, input] of attempts(their)) expect((await call(page, name, input)).status(), name).toBe(401);
    for (const path of routes(their)) expect((await page.request.get(path, { failOnStatusCode: false })).status(), path).toBe(401);
});

test("a request from another site is refused", async ({ signedIn: page, product }) => {
    const forged = await page.request.post("/ui/revoke_other_sessions", {
        data: "{}",
        headers: { "Content-Type": "text/plain", Origin: "https://evil.example", "Sec-Fetch-Site": "cross-site" },
        failOnStatusCode: false,
    });
    expect(forged.status()).toBe(403);
    expect(product.origin).toContain("127.0.0.1");
});
