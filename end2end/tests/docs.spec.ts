// The API's description for people, on every width and in both themes.
import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, test } from "../support/fixtures";
import { fits } from "../support/layout";

/** Opens everything that is folded. */
async function unfold(page: Page): Promise<void> {
    await page.evaluate(() => {
        for (const details of document.querySelectorAll("details")) details.open = true;
    });
}

/** The boxes that hold more than they show, with how much. A pixel may come from rounding. */
async function cut(page: Page): Promise<string[]> {
    return page.locator(".scroll, pre").evaluateAll((boxes) =>
        boxes
            .filter((box) => box.scrollWidth > box.clientWidth + 1)
            .map((box) => `${box.getAttribute("aria-label") ?? box.textContent?.slice(0, 60)}: ${box.scrollWidth - box.clientWidth} px`),
    );
}

for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`a phone, ${colorScheme}`, () => {
        test.use({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme });

        test("nothing of the API's description is cut", async ({ page, guard }) => {
            void guard;
            await page.goto("/docs");
            await unfold(page);
            expect(await page.locator(".scroll table").count()).toBeGreaterThan(20);
            // 320: what 1280 px leave at 400 % (WCAG 1.4.10).
            for (const width of [390, 320]) {
                await page.setViewportSize({ width, height: 844 });
                await fits(page);
                expect(await cut(page), `at ${width} px`).toEqual([]);
            }
        });

        test("a row reads as a paragraph and is still told as a row", async ({ page, guard }) => {
            void guard;
            await page.goto("/docs?q=createResponse");
            const row = page.locator("#createResponse").getByRole("table").getByRole("row").filter({ has: page.getByRole("rowheader") }).first();
            const name = (await row.getByRole("rowheader").boundingBox())!;
            const meaning = (await row.locator(".meaning").boundingBox())!;
            expect(meaning.y, "the meaning is below the name").toBeGreaterThanOrEqual(name.y + name.height - 1);
            expect(meaning.width, "and has the line for itself").toBeGreaterThan(250);
            const contrast = await new AxeBuilder({ page }).withRules(["color-contrast"]).analyze();
            expect(contrast.violations.flatMap(({ nodes }) => nodes.map(({ html }) => html))).toEqual([]);
        });
    });
}

test("where a box is narrower than its table, it scrolls by itself and shows that", async ({ page, guard }) => {
    void guard;
    // Tables are tables from here on, and there is no room for most of them.
    await page.setViewportSize({ width: 660, height: 800 });
    await page.goto("/docs");
    await unfold(page);
    await fits(page);
    const grounds = await page.locator(".scroll").first().evaluate((box) => getComputedStyle(box).backgroundAttachment.split(", "));
    expect(grounds, "shadows that stay at the edges, and what covers them at the ends").toEqual(expect.arrayContaining(["local", "scroll"]));
    const scrolled = await page.locator(".scroll, pre").evaluateAll((boxes) =>
        boxes
            .filter((box) => box.scrollWidth > box.clientWidth)
            .map((box) => {
                box.scrollLeft = box.scrollWidth;
                return box.scrollLeft;
            }),
    );
    expect(scrolled.length, "boxes that are too narrow").toBeGreaterThan(0);
    expect(Math.min(...scrolled)).toBeGreaterThan(0);
    await fits(page);
});
