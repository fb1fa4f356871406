import { defineConfig } from "@playwright/test";
import { shared } from "./support/config";

export default defineConfig({ ...shared, testDir: "bench", testMatch: "*.bench.ts", timeout: 600_000, reporter: [["line"], ["./bench/table.ts"]] });
