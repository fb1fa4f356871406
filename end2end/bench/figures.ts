// A measured figure beside what it should be.
import { expect, test } from "@playwright/test";

/** What `make bench` reports as one row. */
export interface Figure {
    what: string;
    value: number;
    unit: string;
    /** The most it should be. */
    aim: number | undefined;
    digits: number;
}

/** Notes a figure for the table, and fails the measurement (at its end) if it misses its aim. */
export function figure(what: string, value: number, unit: string, aim?: number, digits = 0): void {
    const row: Figure = { what, value, unit, aim, digits };
    test.info().annotations.push({ type: "figure", description: JSON.stringify(row) });
    if (aim !== undefined) expect.soft(value, what).toBeLessThanOrEqual(aim);
}

/** The value below which `share` of all values lie. */
export function percentile(values: number[], share: number): number {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
