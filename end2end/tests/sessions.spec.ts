// Where one is signed in, and how to end that.
import { expect, hydrated, signIn, test } from "../support/fixtures";
import { message } from "../support/names";

test("the session list shows this browser and ends others", async ({ signedIn: page, newPage, person }) => {
    const other = await newPage();
    await signIn(other, person);
    await page.goto("/account/sessions");
    await hydrated(page);
    await page.getByRole("button", { name: /everywhere else/i }).click();
    await expect(page.getByText("All other sessions have ended")).toBeVisible();
    await other.goto("/");
    await expect(other).toHaveURL(/\/sign-in/);
    await page.reload();
    await expect(page).toHaveURL(/\/account\/sessions/);
});

test("signing out ends the session, also for a copy of the cookie", async ({ signedIn: page, newPage }) => {
    const cookies = await page.context().cookies();
    expect(cookies.find(({ name }) => name === "kontor_session")).toMatchObject({ httpOnly: true, sameSite: "Lax" });
    const thief = await newPage();
    await thief.context().addCookies(cookies);
    await thief.goto("/");
    await expect(message(thief)).toBeVisible();
    await page.getByRole("button", { name: "Account menu" }).click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await expect(page).toHaveURL(/\/sign-in/);
    await thief.goto("/");
    await expect(thief).toHaveURL(/\/sign-in/);
});
