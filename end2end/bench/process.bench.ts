// Sizes and times of the product itself: first load over the wire, idle memory, start to ready.
import { type Page, test } from "@playwright/test";
import { expect, hydrated, signIn } from "../support/fixtures";
import { message } from "../support/names";
import { DEFAULT_MODEL, PASSWORD, Product, sleep } from "../support/product";
import { figure } from "./figures";

test("start, first load, idle memory", async ({ browser }) => {
    const product = await Product.prepare(DEFAULT_MODEL);
    try {
        figure("first start (creates the database) to ready", (await product.launch()) / 1000, "s", undefined, 1);
        await product.stop();
        figure("start to ready", (await product.launch()) / 1000, "s", 15, 1);

        const context = await browser.newContext({ baseURL: product.origin, locale: "en-US" });
        const page = await context.newPage();
        await signIn(page, { email: "user@example.org", password: PASSWORD, tenant: "demo" });
        const { bytes, requests, usable } = await firstLoad(page);
        figure("first load of the chat route: transferred", bytes / 1000, "kB", 400);
        figure("first load of the chat route: requests", requests, "", 12);
        figure("first load of the chat route: until usable", usable, "ms");
        await context.close();

        await sleep(10_000);
        figure("idle memory of the web process", product.residentBytes() / 1e6, "MB", 60);
    } finally {
        await product.discard();
    }
});

/** Loads `/` with an empty cache and counts what goes over the wire, heads included. */
async function firstLoad(page: Page): Promise<{ bytes: number; requests: number; usable: number }> {
    await page.goto("about:blank");
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("Network.enable");
    await devtools.send("Network.clearBrowserCache");
    let bytes = 0;
    let requests = 0;
    devtools.on("Network.requestWillBeSent", () => (requests += 1));
    devtools.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    const begin = performance.now();
    await page.goto("/");
    await hydrated(page);
    await expect(message(page)).toBeVisible();
    const usable = performance.now() - begin;
    await page.waitForLoadState("networkidle");
    await devtools.detach();
    return { bytes, requests, usable };
}
