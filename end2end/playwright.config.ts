import { defineConfig } from "@playwright/test";
import { shared } from "./support/config";

const report = process.env.KONTOR_E2E_REPORT;

export default defineConfig({
    ...shared,
    testDir: "tests",
    reporter: report ? [["list"], ["json", { outputFile: report }]] : [["list"]],
});
