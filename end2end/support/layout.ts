// Whether a page fits the width it has.
import { expect, type Page } from "@playwright/test";

/** The page as a whole does not scroll sideways; single boxes may. */
export async function fits(page: Page): Promise<void> {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(wide, `${page.url()} scrolls sideways`).toBeLessThanOrEqual(0);
}
