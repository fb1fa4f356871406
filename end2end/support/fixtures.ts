// Fixtures of all journeys: the running product, a person of one's own, and a page that tolerates no complaint.
import { test as base, type ConsoleMessage, expect, type Page } from "@playwright/test";
import { PASSWORD, Product, SMALL_MODEL } from "./product";

/** Somebody who can sign in. */
export interface Person {
    email: string;
    password: string;
    tenant: string;
}

/** Watches a page: whatever the console complains about, and any request to elsewhere, fails the test. */
export class Guard {
    private readonly complaints: string[] = [];
    private readonly expected: RegExp[] = [];

    constructor(page: Page, origin: string) {
        page.on("console", (message) => this.hear(message));
        page.on("pageerror", (error) => this.complaints.push(`uncaught: ${error.message}`));
        page.on("request", (request) => {
            const url = request.url();
            if (!url.startsWith(origin) && !/^(data|blob|about):/.test(url)) this.complaints.push(`request to elsewhere: ${url}`);
        });
    }

    private hear(message: ConsoleMessage): void {
        if (["error", "warning", "assert"].includes(message.type())) this.complaints.push(`console ${message.type()}: ${message.text()} (${message.location().url})`);
    }

    /** This journey provokes such a complaint on purpose. */
    expect(complaint: RegExp): void {
        this.expected.push(complaint);
    }

    verify(): void {
        const left = this.complaints.filter((complaint) => !this.expected.some((pattern) => pattern.test(complaint)));
        expect(left, "If you are here because this failed: the browser's console must stay silent; hydration mismatches show up here, too").toEqual([]);
    }
}

interface WorkerFixtures {
    /** Model file and settings of the product; changed by `test.use`. */
    productModel: string;
    productSettings: Record<string, string>;
    product: Product;
}

interface TestFixtures {
    /** Creates people; without a tenant's name they belong to `demo`. */
    newPerson: (tenant?: string) => Promise<Person>;
    person: Person;
    /** Opens another browser of its own, watched like {@link page}. */
    newPage: () => Promise<Page>;
    guard: Guard;
    /** A page on which {@link person} is signed in. */
    signedIn: Page;
}

let people = 0;

export const test = base.extend<TestFixtures, WorkerFixtures>({
    productModel: [SMALL_MODEL, { scope: "worker", option: true }],
    productSettings: [{}, { scope: "worker", option: true }],
    product: [
        async ({ productModel, productSettings }, use) => {
            const product = await Product.start(productModel, productSettings);
            await use(product);
            await product.discard();
        },
        { scope: "worker", timeout: 120_000 },
    ],

    baseURL: async ({ product }, use) => use(product.origin),

    newPerson: async ({ product }, use) => {
        await use(async (tenant = "demo") => {
            people += 1;
            const email = `person-${process.pid}-${people}@${tenant}.example`;
            await product.admin(["create-user", "--tenant", tenant, "--email", email, "--name", `Person ${people}`, "--password-stdin"], `${PASSWORD}\n`);
            return { email, password: PASSWORD, tenant };
        });
    },

    person: async ({ newPerson }, use) => use(await newPerson()),

    guard: async ({ page, product }, use) => {
        const guard = new Guard(page, product.origin);
        await use(guard);
        guard.verify();
    },

    newPage: async ({ browser, product }, use) => {
        const guards: Guard[] = [];
        const contexts: { close: () => Promise<void> }[] = [];
        await use(async () => {
            const context = await browser.newContext({ baseURL: product.origin, locale: "en-US", timezoneId: "Europe/Berlin" });
            contexts.push(context);
            const page = await context.newPage();
            guards.push(new Guard(page, product.origin));
            return page;
        });
        for (const context of contexts) await context.close();
        for (const guard of guards) guard.verify();
    },

    signedIn: async ({ page, guard, person }, use) => {
        void guard; // watches the page
        await signIn(page, person);
        await use(page);
    },
});

/** Signs in through the page, as people do. */
export async function signIn(page: Page, person: Person): Promise<void> {
    await page.goto("/sign-in");
    await hydrated(page);
    await page.getByLabel("E-mail").fill(person.email);
    await page.getByLabel("Password", { exact: true }).fill(person.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("textbox", { name: "Message" })).toBeVisible();
    await hydrated(page);
}

/** Waits until the browser's code has taken over the page, which it says itself. */
export async function hydrated(page: Page): Promise<void> {
    await page.locator("html[data-hydrated]").waitFor({ state: "attached" });
}

export { expect };
