// Chromium, and pages of the admin listener that record what must not happen.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import axe from "axe-core";
import { chromium } from "playwright-core";

const ARTEFACTS = fileURLToPath(new URL("artefacts/", import.meta.url));
const PROGRAM = process.env.CHROMIUM ?? "/usr/bin/chromium";
mkdirSync(ARTEFACTS, { recursive: true });

/** Starts Chromium. As root it has no sandbox of its own. */
export const launch = () => chromium.launch({ executablePath: PROGRAM, args: ["--no-sandbox", "--disable-gpu"] });

/** A page whose faults are recorded: foreign requests, violations of the policy, errors of the script. */
export class Visit {
  static async open(browser, gateway, { path = "/", ...options } = {}) {
    const visit = new Visit();
    visit.gateway = gateway;
    visit.faults = [];
    visit.context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
    visit.page = await visit.context.newPage();
    visit.page.setDefaultTimeout(20_000);
    // Before the page's own script. The list is outside the page, so a reload keeps it.
    await visit.page.exposeFunction("recordViolation", (text) => visit.faults.push(`policy: ${text}`));
    await visit.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => window.recordViolation(`${event.violatedDirective} ${event.blockedURI}`));
    });
    visit.page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol !== "data:" && origin !== gateway.admin) visit.faults.push(`foreign request: ${request.url()}`);
    });
    visit.page.on("pageerror", (error) => visit.faults.push(`error: ${error.stack}`));
    visit.page.on("console", (message) => {
      if (message.text().includes("Content Security Policy")) visit.faults.push(`console: ${message.text()}`);
    });
    visit.response = await visit.page.goto(gateway.admin + path);
    return visit;
  }

  /** Waits until an element is visible that has this text. */
  async shows(selector, text) {
    await this.page.locator(selector).filter({ hasText: text }).first().waitFor();
  }

  async text(selector) {
    return this.page.locator(selector).first().innerText();
  }

  /** Keeps a picture. */
  async picture(name) {
    await this.page.screenshot({ path: `${ARTEFACTS}${name}.png`, fullPage: true });
  }

  /** The serious and critical findings of axe-core. DevTools evaluates it, so the page's policy stays in force. */
  async findings() {
    await this.page.evaluate(axe.source);
    const { violations, passes } = await this.page.evaluate(() => window.axe.run(document));
    assert.ok(passes.length > 15, `axe-core checked only ${passes.length} rules`);
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(" | ")}`);
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.faults, []);
  }
}
