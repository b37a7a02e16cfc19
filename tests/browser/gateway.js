// A real gateway process in front of an upstream of the test.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const BINARY = resolve(process.env.TIDEGATE_BINARY ?? "../../target/debug/tidegate");
const WAIT_MS = 20_000;

/** Waits until `check` gives a value that is not empty. */
export async function until(what, check) {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${WAIT_MS} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** An upstream: `/held…` gets its answer when `release` is called, `/broken…` gets 500, all else 200. */
export class Upstream {
  #held = [];
  #server = http.createServer((request, response) => {
    request.resume();
    const path = request.url.split("/").at(-1);
    if (path.startsWith("held")) this.#held.push(response);
    else response.writeHead(path.startsWith("broken") ? 500 : 200, { "content-type": "text/plain" }).end("x");
  });

  async start() {
    await new Promise((done) => this.#server.listen(0, "127.0.0.1", done));
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  get held() {
    return this.#held.length;
  }

  release() {
    for (const response of this.#held.splice(0)) response.writeHead(200).end("x");
  }

  stop() {
    this.release();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** A gateway on free ports. `settings` are configuration keys and their values. */
export class Gateway {
  static async start(settings) {
    const gateway = new Gateway();
    gateway.directory = mkdtempSync(join(tmpdir(), "tidegate-page-"));
    const keys = { "server.port": 0, "admin.port": 0, "server.workers": 2, ...settings };
    const variables = Object.entries(keys).map(([key, value]) => [`TIDEGATE_${key.toUpperCase().replaceAll(".", "__")}`, String(value)]);
    const environment = { PATH: process.env.PATH, ...Object.fromEntries(variables) };
    gateway.process = spawn(BINARY, [], { cwd: gateway.directory, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    let errors = "";
    gateway.process.stderr.on("data", (piece) => (errors += piece));
    const lines = createInterface({ input: gateway.process.stdout });
    const listening = new Promise((done, fail) => {
      lines.on("line", (line) => {
        const { msg, address, admin } = JSON.parse(line);
        if (msg === "listening") done({ address, admin });
      });
      gateway.process.once("error", fail);
      gateway.process.once("exit", (code) => fail(new Error(`the gateway ended with ${code}: ${errors}`)));
    });
    const { address, admin } = await listening;
    gateway.data = `http://${address}`;
    gateway.admin = `http://${admin}`;
    return gateway;
  }

  /** Sends a GET to the data listener. The answer's body is read. */
  async get(path, headers = {}) {
    const response = await fetch(this.data + path, { headers });
    await response.text();
    return response;
  }

  async status() {
    return (await fetch(`${this.admin}/status`)).json();
  }

  /** Ends the process without a farewell to its clients, as a crash does. */
  async kill() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGKILL");
      await once(this.process, "exit");
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
