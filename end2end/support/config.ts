// What the three Playwright configurations share.
import type { PlaywrightTestConfig } from "@playwright/test";

/** The system's Chromium, quiet and without anything that calls home. */
export const browser = {
    executablePath: process.env.KONTOR_CHROMIUM ?? "/usr/bin/chromium",
    args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
};

/**
 * One worker: all tests share one running product, whose model has the machine's cores for itself.
 * No retries: a journey that works only sometimes does not work.
 */
export const shared: PlaywrightTestConfig = {
    workers: 1,
    fullyParallel: false,
    retries: 0,
    forbidOnly: true,
    timeout: 180_000,
    expect: { timeout: 15_000 },
    outputDir: "test-results",
    use: {
        browserName: "chromium",
        launchOptions: browser,
        locale: "en-US",
        timezoneId: "Europe/Berlin",
        viewport: { width: 1280, height: 800 },
        trace: "retain-on-failure",
        screenshot: "only-on-failure",
        actionTimeout: 15_000,
        navigationTimeout: 30_000,
    },
};
