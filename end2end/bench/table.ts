// Prints all figures as a table and puts it into docs/PERFORMANCE.md.
import type { Reporter, TestCase, TestResult } from "@playwright/test/reporter";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Figure } from "./figures";

const page = resolve(dirname(fileURLToPath(import.meta.url)), "../../docs/PERFORMANCE.md");
const between = /(<!-- figures: written by make bench -->\n)[\s\S]*?(<!-- end of figures -->)/;

export default class Table implements Reporter {
    private readonly rows: Figure[] = [];

    onTestEnd(_test: TestCase, result: TestResult): void {
        for (const { type, description } of result.annotations) {
            if (type === "figure" && description) this.rows.push(JSON.parse(description) as Figure);
        }
    }

    onEnd(): void {
        if (this.rows.length === 0) return;
        const table = this.table();
        process.stdout.write(`\n${table}`);
        const text = readFileSync(page, "utf8");
        // A run of one measurement must not throw the others' figures away.
        if (process.env.KONTOR_BENCH_KEEP !== "1") writeFileSync(page, text.replace(between, `$1\n${table}\n$2`));
    }

    private table(): string {
        const number = (value: number, digits: number) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
        const lines = this.rows.map(({ what, value, unit, aim, digits }) => `| ${what} | ${number(value, digits)} ${unit} | ${aim === undefined ? "" : `≤ ${number(aim, digits)} ${unit}`} |`);
        const machine = `Measured on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpus()[0]?.model ?? "unknown CPU"}, ${Math.round(totalmem() / 2 ** 30)} GiB.`;
        return ["| Figure | Measured | Aim |", "|---|---:|---:|", ...lines, "", machine, ""].join("\n");
    }
}
