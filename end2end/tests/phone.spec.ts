// The same product on a phone: nothing is cut off, everything is reachable, targets are large enough.
import { SHORT_QUESTION, askAndWait } from "../support/chat";
import { expect, hydrated, test } from "../support/fixtures";
import { fits } from "../support/layout";
import { conversations, newChat, send } from "../support/names";

test.use({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });

test("a chat on a phone", async ({ signedIn: page }) => {
    await fits(page);
    await expect(conversations(page)).toBeHidden();
    await askAndWait(page, SHORT_QUESTION);
    await fits(page);
    const box = (await send(page).boundingBox())!;
    expect(Math.min(box.width, box.height)).toBeGreaterThanOrEqual(44);

    await page.getByRole("button", { name: "Open navigation" }).tap();
    await expect(conversations(page)).toBeVisible();
    await newChat(page).tap();
    await expect(page).toHaveURL(/\/$/);
    await expect(conversations(page)).toBeHidden();
});

for (const path of ["/", "/search?q=word", "/account/profile", "/account/prompts", "/account/usage", "/account/sessions"]) {
    test(`${path} fits a phone and a page enlarged to 400 %`, async ({ signedIn: page }) => {
        await page.goto(path);
        await hydrated(page);
        await fits(page);
        // 1280 px at 400 % leave 320 (WCAG 1.4.10).
        await page.setViewportSize({ width: 320, height: 640 });
        await fits(page);
    });
}
