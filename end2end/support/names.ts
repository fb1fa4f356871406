// Accessible names that the journeys go by, in English. Those of the first block are a promise to assistive
// technology and to people's own scripts; do not change them.
import type { Locator, Page } from "@playwright/test";

export const message = (page: Page): Locator => page.getByRole("textbox", { name: "Message", exact: true });
export const send = (page: Page): Locator => page.getByRole("button", { name: "Send", exact: true });
export const stop = (page: Page): Locator => page.getByRole("button", { name: "Stop", exact: true });
export const newChat = (page: Page): Locator => page.getByRole("button", { name: "New chat" }).or(page.getByRole("link", { name: "New chat" })).first();
export const answers = (page: Page): Locator => page.getByRole("article", { name: "Answer", exact: true });
export const conversations = (page: Page): Locator => page.getByRole("navigation", { name: "Conversations" });
export const accountTab = (page: Page, name: "Profile" | "Prompt history" | "Usage" | "Sessions"): Locator => page.getByRole("tab", { name, exact: true });

export const questions = (page: Page): Locator => page.getByRole("article", { name: "Question", exact: true });
export const lastAnswer = (page: Page): Locator => answers(page).last();
export const regenerate = (answer: Locator): Locator => answer.getByRole("button", { name: "Regenerate" });
/** The rendered Markdown of an answer, without its tool bar. */
export const textOf = (article: Locator): Locator => article.locator(".prose-kontor");
export const chatEntry = (page: Page, title: string | RegExp): Locator => conversations(page).getByRole("listitem").filter({ hasText: title });
