// The built product as a process: started with a fresh data folder on free ports, asked, killed, restarted.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const repository = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const cache = process.env.KONTOR_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kontor");

/** The small model: quick enough for tests, and it answers. */
export const SMALL_MODEL = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
/** The model that people get. */
export const DEFAULT_MODEL = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf";
/** Password of everybody in the tests. */
export const PASSWORD = "correct horse battery staple";

/** The newest build: release from `make`, debug from `cargo leptos end-to-end`. */
function builtProgram(): string {
    const target = process.env.CARGO_TARGET_DIR ?? join(cache, "target");
    const builds = [process.env.KONTOR_BINARY, join(target, "release/kontor"), join(target, "debug/kontor"), join(repository, "target/release/kontor")];
    const found = builds.filter((path): path is string => path !== undefined && existsSync(path));
    if (found.length === 0) throw new Error("there is no built `kontor`: run scripts/build");
    if (process.env.KONTOR_BINARY) return found[0]!;
    return found.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0]!;
}

async function freePort(): Promise<number> {
    return new Promise((done, failed) => {
        const server = createServer();
        server.once("error", failed);
        server.listen(0, "127.0.0.1", () => {
            const address = server.address();
            server.close(() => (address && typeof address === "object" ? done(address.port) : failed(new Error("no port"))));
        });
    });
}

export const sleep = (milliseconds: number) => new Promise<void>((done) => setTimeout(done, milliseconds));

/** Asks again until `probe` gives something; fails with `what` after `limit` ms. Returns how long it took as well. */
export async function until<T>(what: string, limit: number, probe: () => Promise<T | undefined | false>): Promise<{ value: T; took: number }> {
    const begin = performance.now();
    for (;;) {
        const value = await probe();
        if (value !== undefined && value !== false) return { value: value as T, took: performance.now() - begin };
        if (performance.now() - begin > limit) throw new Error(`not within ${limit} ms: ${what}`);
        await sleep(10);
    }
}

/** Sums of a person's ledger, as `kontor admin ledger --json` prints them. */
export interface Ledger {
    open: number;
    settled: number;
    prompt_tokens: number;
    cached_tokens: number;
    completion_tokens: number;
}

export class Product {
    private child: ChildProcess | undefined;
    readonly log: string;

    private constructor(
        readonly port: number,
        readonly metricsPort: number,
        readonly folder: string,
        private readonly settings: Record<string, string>,
    ) {
        this.log = join(folder, "server.log");
    }

    /** A product of its own, not started yet: empty database, both demo people with {@link PASSWORD}. */
    static async prepare(model = SMALL_MODEL, settings: Record<string, string> = {}): Promise<Product> {
        const models = { KONTOR__MODELS__DEFAULT_PATH: join(cache, "models", model) };
        return new Product(await freePort(), await freePort(), mkdtempSync(join(tmpdir(), "kontor-e2e-")), { ...models, ...settings });
    }

    static async start(model?: string, settings?: Record<string, string>): Promise<Product> {
        const product = await Product.prepare(model, settings);
        await product.launch();
        return product;
    }

    get origin(): string {
        return `http://127.0.0.1:${this.port}`;
    }

    get pid(): number {
        if (this.child?.pid === undefined) throw new Error("the product does not run");
        return this.child.pid;
    }

    private environment(): NodeJS.ProcessEnv {
        const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("KONTOR__") && !name.startsWith("LEPTOS_") && name !== "DATABASE_URL"));
        return {
            ...clean,
            KONTOR__SERVER__ADDR: `127.0.0.1:${this.port}`,
            KONTOR__METRICS__ADDR: `127.0.0.1:${this.metricsPort}`,
            KONTOR__DATA_DIR: join(this.folder, "data"),
            KONTOR__CACHE_DIR: cache,
            KONTOR__BOOTSTRAP__PASSWORD: PASSWORD,
            KONTOR__SERVER__SITE_ROOT: join(repository, "target/site"),
            ...this.settings,
        };
    }

    /** Starts the process and waits until it is ready; the milliseconds that took. */
    async launch(): Promise<number> {
        const begin = performance.now();
        const log = openSync(this.log, "a");
        // In its own folder: a developer's kontor.toml must not matter.
        const child = spawn(builtProgram(), ["serve"], { cwd: this.folder, env: this.environment(), stdio: ["ignore", log, log] });
        this.child = child;
        const ready = until("the product is ready", 90_000, async () => {
            if (child.exitCode !== null) throw new Error(`the product ended with status ${child.exitCode}:\n${this.logTail()}`);
            return this.isReady();
        });
        await ready.catch((error: Error) => {
            throw new Error(`${error.message}\n${this.logTail()}`);
        });
        return performance.now() - begin;
    }

    async isReady(): Promise<boolean> {
        try {
            return (await fetch(`${this.origin}/readyz`)).ok;
        } catch {
            return false; // not listening yet
        }
    }

    /** Ends the process with the signal (a polite one by default) and waits until it is gone. */
    async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
        const child = this.child;
        this.child = undefined;
        if (!child || child.exitCode !== null || child.signalCode !== null) return;
        const gone = new Promise<void>((done) => child.once("exit", () => done()));
        child.kill(signal);
        const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
        await gone;
        clearTimeout(late);
    }

    /** Stops and throws the data away; keeps the log's tail for the report when asked to. */
    async discard(): Promise<void> {
        await this.stop();
        rmSync(this.folder, { recursive: true, force: true });
    }

    logTail(lines = 40): string {
        return readFileSync(this.log, "utf8").split("\n").slice(-lines).join("\n");
    }

    /** `kontor admin --json …` against the same database. */
    async admin<T = unknown>(args: string[], input = ""): Promise<T> {
        const text = await new Promise<string>((done, failed) => {
            const child = execFile(builtProgram(), ["admin", "--json", ...args], { cwd: this.folder, env: this.environment(), maxBuffer: 64 << 20 }, (error, out, err) =>
                error ? failed(new Error(`kontor admin ${args.join(" ")}: ${err || error.message}`)) : done(out),
            );
            child.stdin?.end(input);
        });
        return JSON.parse(text) as T;
    }

    /** Where and with what a shell is started, so that its `kontor` is this build and works on the same database. */
    shell(): { cwd: string; env: NodeJS.ProcessEnv } {
        const programs = join(this.folder, "bin");
        mkdirSync(programs, { recursive: true });
        const kontor = join(programs, "kontor");
        if (!existsSync(kontor)) symlinkSync(resolve(builtProgram()), kontor);
        const env = this.environment();
        return { cwd: this.folder, env: { ...env, PATH: `${programs}:${env.PATH}` } };
    }

    async ledger(email: string): Promise<Ledger> {
        return this.admin<Ledger>(["ledger", "--email", email]);
    }

    /** The sum of one gauge over all workers, e.g. `kontor_worker_busy`. */
    async gauge(name: string): Promise<number> {
        const text = await (await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`)).text();
        const values = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
        if (values.length === 0) throw new Error(`there is no metric ${name}:\n${text}`);
        return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
    }

    /** Process ids of the inference workers that this product started. */
    workers(): number[] {
        return readdirSync("/proc")
            .filter((name) => /^\d+$/.test(name))
            .map(Number)
            .filter((pid) => {
                try {
                    const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
                    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
                    return Number(parent) === this.pid && command[1] === "worker";
                } catch {
                    return false; // ended meanwhile
                }
            });
    }

    /** Resident memory of the web process in bytes. */
    residentBytes(): number {
        const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
        return Number(kib) * 1024;
    }
}
