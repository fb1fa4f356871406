import { defineConfig } from "@playwright/test";
import { shared } from "./support/config";

export default defineConfig({ ...shared, testDir: "screenshots", testMatch: "*.shots.ts", timeout: 600_000, reporter: [["list"]] });
