// The page of the admin listener in Chromium, on real gateways (X7, X10, O4).
//
//   npm ci --ignore-scripts && TIDEGATE_BINARY=… node --test
//
// Pictures are kept in artefacts/. Each visit also fails for a request to another origin, for a violation of the content security
// policy, and for an error of the script.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, Visit } from "./browser.js";
import { Gateway, until, Upstream } from "./gateway.js";

const OPERATOR = "operator-0123456789abcdef0123456789";
const READER = "reader-0123456789abcdef0123456789ab";
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true };

let browser, upstream;

before(async () => {
  browser = await launch();
  upstream = await new Upstream().start();
});

after(async () => {
  await browser?.close();
  upstream?.stop();
});

/** A gateway with ten slots. Two failures open the circuit of `photos`. */
async function start(settings = {}) {
  return Gateway.start({
    "buckets.photos.auth": "anonymous",
    "buckets.photos.s3.endpoints": upstream.url,
    "buckets.photos.s3.retry.max_attempts": 1,
    "buckets.photos.s3.circuit_breaker.failure_threshold": 2,
    "buckets.photos.s3.circuit_breaker.timeout_seconds": 60,
    "buckets.slow.auth": "anonymous",
    "buckets.slow.s3.endpoints": upstream.url,
    "server.max_concurrent_requests": 10,
    "monitor.interval_ms": 50,
    ...settings,
  });
}

/** Runs `use` with a gateway and a visit of its page, and ends both. */
async function visiting(use, { settings, ...options } = {}) {
  const gateway = await start(settings);
  try {
    const visit = await Visit.open(browser, gateway, options);
    await use(visit, gateway);
    await visit.close();
  } finally {
    upstream.release();
    await gateway.kill();
  }
}

/** Nine requests in ten slots, until the upstream releases them. */
async function press(gateway) {
  const pending = Array.from({ length: 9 }, () => gateway.get("/slow/held").catch(() => null));
  await until("nine requests are in flight", () => upstream.held === 9);
  return pending;
}

async function open_circuit(gateway, id = "the-first") {
  for (const number of [1, 2]) await gateway.get(`/photos/broken-${number}`, { "x-request-id": `${id}-${number}` });
  // The failures reach the circuit after their answers.
  await until("the circuit refuses", async () => {
    const answer = await gateway.get("/photos/anything", { "x-request-id": `${id}-refused` });
    return answer.status === 503;
  });
}

test("X7, X10: real pressure raises the level, and the page shows it and its end without a reload", () =>
  visiting(async (visit, gateway) => {
    await visit.shows("#verdict-word", "OK");
    assert.equal(await visit.page.title(), "tidegate");
    await visit.page.evaluate(() => (window.isSameDocument = true));
    const pending = await press(gateway);
    await visit.shows("#verdict-word", "Degraded");
    await visit.shows("#level", "critical");
    await visit.shows(".cause h3", "in_flight at 90.0 %, threshold 90 %");
    await visit.shows(".cause", "when the resource falls below the threshold");
    assert.equal(await visit.page.title(), "Degraded: tidegate");
    assert.match(await visit.text("#announcement"), /^Degraded\. Causes: critical/);
    assert.match(await visit.text("#bucket-list article[aria-label='Bucket slow']"), /9 of \d+/);
    upstream.release();
    await Promise.all(pending);
    await visit.shows("#verdict-word", "OK");
    await visit.shows("#change-table", "ended");
    assert.equal(await visit.page.evaluate(() => window.isSameDocument), true);
  }));

test("X7, X10: an opened circuit and its cause appear, with a link to the page of the cause", () =>
  visiting(async (visit, gateway) => {
    await visit.shows("#verdict-word", "OK");
    await open_circuit(gateway);
    await visit.shows("#verdict-word", "Critical");
    const cause = visit.page.locator(".cause").filter({ hasText: "circuit_open" });
    await cause.getByText("bucket photos, read").waitFor();
    await cause.getByText("2 failures in a row, threshold 2 failures in a row").waitFor();
    await cause.getByText(/1 refused/).waitFor();
    await visit.shows("#bucket-list article[aria-label='Bucket photos'] .state[data-state='open']", "open");
    await visit.shows("#bucket-list article[aria-label='Bucket photos'] .state[data-state='failing']", "failing");
    await visit.picture("circuit-open");
    await cause.getByRole("link").click();
    await visit.page.waitForURL("**/docs/causes.md#circuit_open");
    assert.match(await visit.text("#circuit_open"), /Severity\s+critical/);
    assert.deepEqual(await visit.findings(), []);
  }));

test("X10: sentences name one thing in the singular, keys as code, and messages as the API has them", () =>
  visiting(async (visit, gateway) => {
    await gateway.get("/photos/broken");
    await until("the circuit refuses", async () => (await gateway.get("/photos/anything")).status === 503);
    const circuit = visit.page.locator(".cause").filter({ hasText: "circuit_open" });
    await circuit.getByText("1 failure in a row, threshold 1 failure in a row").waitFor();
    const chaos = visit.page.locator(".cause").filter({ hasText: "admin.chaos is on" });
    assert.equal(await chaos.locator("h3").evaluate((title) => title.innerText), "admin.chaos is on; turn it off in production");
    await chaos.locator("dd code").getByText("admin.chaos").waitFor();
    await visit.shows("#configuration-table", "circuit_breaker.failure_threshold");
    assert.ok(!(await visit.text("main")).includes("`"), "no mark of code is shown");
  }, { settings: { "buckets.photos.s3.circuit_breaker.failure_threshold": 1, "admin.chaos": true } }));

test("O4: a decision is found by its request ID, with the story of the request", () =>
  visiting(async (visit, gateway) => {
    await open_circuit(gateway, "night");
    await visit.shows("#decision-table", "night-refused");
    await visit.page.getByLabel("Request ID").fill("night-refused");
    await visit.page.getByRole("button", { name: "Find" }).click();
    await visit.shows("#decision-table caption", "Decisions about this request");
    const rows = visit.page.locator("#decision-table tbody tr");
    assert.equal(await rows.count(), 1);
    assert.match(await rows.innerText(), /refusal\s+breaker_open\s+503\s+night-refused\s+photos\s+127\.0\.0\.1/);
    await visit.shows("#story li", "the gateway refused the request of bucket photos with status 503 for the reason breaker_open");
    assert.equal(await visit.page.locator("#story li code").filter({ hasText: "breaker_open" }).count() > 0, true);
    await visit.picture("decision");
    await visit.page.getByLabel("Request ID").fill("no-such-request");
    await visit.page.keyboard.press("Enter");
    await visit.shows("#story", "there is no decision about request no-such-request");
    await visit.page.getByRole("button", { name: "Show the last" }).click();
    await visit.shows("#decision-table caption", "Last decisions");
  }));

test("X7, G2: the configuration has its origins and can be filtered", () =>
  visiting(async (visit) => {
    await visit.shows("#configuration-table tr", "TIDEGATE_SERVER__MAX_CONCURRENT_REQUESTS");
    await visit.page.getByLabel("without defaults").uncheck();
    await visit.page.getByLabel("Keys, values or origins with").fill("monitor.crit");
    await visit.shows("#configuration-table caption", /, 1 of \d+ keys/);
    assert.match(await visit.text("#configuration-table tbody tr"), /monitor\.critical[\s\S]*90 %\s+default/);
  }));

test("O5, C4: a login with a wrong token says so; with a token the page opens; a logout closes it", () =>
  visiting(async (visit, gateway) => {
    await visit.page.getByLabel("Token of this admin listener").fill("wrong-0123456789abcdef0123456789ab");
    await visit.page.getByRole("button", { name: "Log in" }).click();
    await visit.shows("#login-error", "the token is neither that of admin.token nor that of admin.read_token");
    assert.deepEqual(await visit.findings(), []);
    await visit.picture("login");
    for (const token of [READER, OPERATOR]) {
      await visit.page.getByLabel("Token of this admin listener").fill(token);
      await visit.page.keyboard.press("Enter");
      await visit.shows("#verdict-word", "OK");
      assert.equal(visit.page.url(), `${gateway.admin}/`);
      assert.equal(await visit.page.evaluate(() => document.cookie), "", "no script reads the cookie");
      await visit.page.getByRole("button", { name: "Log out" }).click();
      await visit.page.getByLabel("Token of this admin listener").waitFor();
    }
    assert.equal((await visit.page.request.get(`${gateway.admin}/status`)).status(), 401);
  }, { settings: { "admin.token": OPERATOR, "admin.read_token": READER } }));

test("O5: the login works without the script, and a session that ends leads back to it", () =>
  visiting(async (visit, gateway) => {
    const own = await Visit.open(browser, gateway, { javaScriptEnabled: false });
    await own.page.getByLabel("Token of this admin listener").fill(OPERATOR);
    await own.page.keyboard.press("Enter");
    await own.page.locator("noscript .notice").waitFor();
    await visit.context.addCookies(await own.context.cookies());
    await own.close();
    await visit.page.reload();
    await visit.shows("#verdict-word", "OK");
    await visit.context.clearCookies();
    await visit.page.getByLabel("Token of this admin listener").waitFor();
  }, { settings: { "admin.token": OPERATOR } }));

test("O10: every control is reached by keyboard, in order, with a visible focus", () =>
  visiting(async (visit, gateway) => {
    await open_circuit(gateway);
    await visit.shows("#verdict-word", "Critical");
    await visit.shows("#configuration-table", "server.port");
    const { page } = visit;
    await page.keyboard.press("Tab");
    await page.getByRole("link", { name: "Skip to the status" }).and(page.locator(":focus")).waitFor();
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press("Tab");
    const focused = () => page.evaluate(() => {
      const { activeElement: own } = document;
      if (own === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(own);
      const all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")].filter((each) => each.checkVisibility());
      return { at: all.indexOf(own), of: all.length, name: own.id || own.outerHTML.slice(0, 80), isVisible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
    });
    const seen = new Map();
    for (let step = 0; step < 300; step += 1) {
      const now = await focused();
      if (now) {
        assert.ok(now.isVisible, `no outline: ${now.name}`);
        seen.set(now.name, now);
        if (now.at === now.of - 1) break;
      }
      await page.keyboard.press("Tab");
    }
    const [last] = [...seen.values()].slice(-1);
    assert.equal(last.at, last.of - 1, `the last control is not reached; ${last.name} was the last of ${seen.size}`);
    for (const id of ["request-id", "filter-text", "filter-set"]) assert.ok(seen.has(id), `${id} is not reached`);
    assert.ok(seen.size > 20, `${seen.size} controls`);
  }));

test("O10: axe-core finds nothing serious in light, dark and on a phone, and nothing is wider than the phone", async () => {
  for (const [name, options] of [["light", {}], ["dark", { colorScheme: "dark" }], ["phone", PHONE], ["phone-dark", { ...PHONE, colorScheme: "dark" }]]) {
    await visiting(async (visit, gateway) => {
      await visit.shows("#verdict-word", "OK");
      await visit.shows("#configuration-table", "server.port");
      assert.deepEqual(await visit.findings(), [], `${name}, ok`);
      await visit.picture(`${name}-ok`);
      await press(gateway);
      await open_circuit(gateway);
      await visit.shows("#verdict-word", "Critical");
      await visit.shows("#level", "critical");
      await visit.shows("#plots figure", "Memory");
      assert.deepEqual(await visit.findings(), [], `${name}, critical`);
      await visit.picture(`${name}-critical`);
      const width = await visit.page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
      assert.ok(width[0] <= width[1], `${name}: ${width}`);
    }, options);
  }
});

test("X7: sensors are plotted against their thresholds, latency of each bucket beside it, as tables too", () =>
  visiting(async (visit, gateway) => {
    for (const number of [1, 2, 3]) assert.equal((await gateway.get(`/slow/${number}`)).status, 200);
    const plot = visit.page.locator("#plots figure").filter({ hasText: "In flight, %" });
    await plot.locator("svg[role='img']").first().waitFor();
    assert.match(await plot.locator("svg desc").first().textContent(), /Threshold critical: 90 %/);
    assert.ok(await plot.locator("polyline.plot-critical").count() === 1);
    await plot.locator("summary").click();
    await plot.locator("table td").first().waitFor();
    const line = plot.locator("polyline.plot-critical");
    const color = () => line.evaluate((each) => getComputedStyle(each).stroke);
    const light = await color();
    await visit.page.emulateMedia({ colorScheme: "dark" });
    assert.notEqual(await color(), light, "the style sheet themes the plot");
    const latency = visit.page.locator("[data-bucket='slow'] figure").filter({ hasText: "Latency" });
    await latency.getByText(/p99 [\d.]+ ms/).first().waitFor();
    await press(gateway);
    await until("the plot shows the pressure", async () => /highest 9\d? %|highest 90 %/.test(await plot.locator("svg desc").first().textContent()));
    assert.ok(await plot.locator("details[open]").count() === 1, "an opened table stays open");
  }));

test("X7: without the stream the page polls; without the gateway it says since when", () =>
  visiting(async (visit, gateway) => {
    await visit.shows("#contact", "live");
    await visit.page.route("**/status/stream", (route) => route.abort());
    await visit.page.reload();
    await visit.shows("#contact", "every 2 s");
    await open_circuit(gateway);
    await visit.shows("#verdict-word", "Critical");
    await gateway.kill();
    await visit.shows("#verdict-word", "No contact");
    assert.match(await visit.text("#summary"), /The figures below are of \d\d:\d\d:\d\d UTC/);
    assert.equal(await visit.page.locator(".cause").count() > 0, true, "the last figures stay");
  }));

test("C4: texts of clients and of the configuration are shown as text", () =>
  visiting(async (visit, gateway) => {
    const hostile = "<img src=x onerror=\"window.isInjected=1\">\"'</td><script>window.isInjected=1</script>";
    await visit.page.route("**/status/stream", (route) => route.abort());
    await visit.page.route("**/status", async (route) => {
      const status = await (await route.fetch()).json();
      const [[, bucket]] = Object.entries(status.buckets);
      status.buckets = { [hostile]: { ...bucket, kind: hostile, pattern: hostile } };
      status.actors = { [hostile]: Object.values(status.actors)[0] };
      status.reason = status.summary = hostile;
      await route.fulfill({ json: status });
    });
    await visit.page.route("**/decisions?*", async (route) => {
      const found = await (await route.fetch()).json();
      if (found.decisions) found.decisions = found.decisions.map((decision) => ({ ...decision, reason: hostile, request_id: hostile, client_key: hostile, detail: hostile }));
      await route.fulfill({ json: found });
    });
    await open_circuit(gateway);
    await visit.page.reload();
    for (const part of ["#summary", "#level", "#bucket-list", "#actor-table", "#decision-table"]) await visit.shows(part, hostile);
    await visit.page.getByLabel("Request ID").fill(hostile);
    await visit.page.keyboard.press("Enter");
    await visit.shows("#story", "request_id");
    assert.equal(await visit.page.evaluate(() => window.isInjected), undefined);
    assert.equal(await visit.page.locator("main img, main script").count(), 0);
  }));
