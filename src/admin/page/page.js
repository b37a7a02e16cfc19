// The page of the admin listener: shows what the API answers, and nothing else. Data becomes text nodes and attributes only.
"use strict";

const POLL_MS = 2000;
const POLL_BESIDE_STREAM_MS = 5000;
const PLOTS_MS = 5000;
const CONFIGURATION_MS = 60000;
const STREAM_RETRY_MS = 10000;
const ROWS_MAX = 50;
const BUCKETS_WITH_PLOTS = 4;
const $ = (id) => document.getElementById(id);

// Elements ------------------------------------------------------------------------------------------------------------

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined).map((c) => (c instanceof Node ? c : String(c))));
  return made;
}

// Changes `old` into `fresh` in place, so that focus, scroll positions and opened parts stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...fresh.attributes]) if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (fresh.hasAttribute("data-keep")) return;
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
  after.forEach((child, at) => (at < before.length ? morph(before[at], child) : old.append(child)));
  before.slice(after.length).forEach((child) => child.remove());
}

// Replaces the content of an element.
function fill(box, children) {
  const fresh = box.cloneNode(false);
  fresh.removeAttribute("data-keep");
  fresh.append(...children.filter((child) => child !== null));
  const keep = box.hasAttribute("data-keep");
  morph(box, fresh);
  if (keep) box.setAttribute("data-keep", "");
}

const show = (id, ...children) => fill($(id), children.flat());

// A table; a column of numbers is right-aligned. It scrolls by itself, also by keyboard.
function table(caption, columns, rows, none = "none") {
  if (rows.length === 0) return element("p", { class: "none" }, `${caption}: ${none}.`);
  const kind = columns.map((_, at) => (rows.every((row) => typeof row[at] === "number") ? "number" : null));
  const head = element("tr", null, columns.map((column, at) => element("th", { scope: "col", class: kind[at] }, column)));
  const cell = (value, at) => element(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, class: kind[at] }, value ?? "–");
  const body = rows.map((row) => element("tr", null, row.map(cell)));
  const made = element("table", null, element("caption", null, caption), element("thead", null, head), element("tbody", null, body));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, made);
}

const state = (word) => element("span", { class: "state", "data-state": word }, words(word));
const meter = (label, value, max) => element("meter", { min: 0, max: Math.max(max, 1), value, "aria-label": label });
const facts = (...pairs) => element("dl", null, pairs.filter(([, fact]) => fact !== null && fact !== undefined && fact !== "")
  .map(([term, fact]) => element("div", null, element("dt", null, term), element("dd", null, fact))));

// Texts ---------------------------------------------------------------------------------------------------------------

const words = (name) => String(name).replaceAll("_", " ");
const number = (value) => (Number.isInteger(value) ? String(value) : String(Math.round(value * 100) / 100));

// The unit of a value: that of one thing is the singular. Abbreviations and shares do not change.
const unit_of = (value, unit) => (value !== 1 || unit.startsWith("%") ? unit
  : unit.replace(/(?<=^| )[a-z]+[a-rt-z]s(?= |$)/, (noun) => noun.replace(/ies$/, "y").replace(/s$/, "")));
const counted = (value, unit) => `${number(value)} ${unit_of(value, unit)}`;

// The text with the parts between backquotes as code.
function rich(text) {
  const parts = String(text ?? "").split("`");
  return parts.length % 2 === 0 ? [String(text)] : parts.map((part, at) => (at % 2 === 1 ? element("code", null, part) : part));
}

// The text without the targets of its links.
const unlinked = (text) => String(text).replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${number(value)} ${units[at]}`;
}

function duration(ms) {
  if (ms < 1000) return `${number(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.floor(s / 86400)} days`;
}

const milliseconds = (ms) => (ms === null || ms === undefined ? "–" : duration(ms));

function quantity(of) {
  if (!of || of.value === null || of.value === undefined) return null;
  if (of.unit === "bytes") return bytes(of.value);
  return of.unit === "ms" ? duration(of.value) : counted(of.value, of.unit ?? "").trim();
}

function plain(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "object") return Object.entries(value).filter(([, v]) => v !== null).map(([k, v]) => `${words(k)} ${plain(v)}`).join(", ");
  return typeof value === "number" ? value : String(value);
}

const time = (text) => element("time", { datetime: text }, String(text).slice(11, 19));
const scope = ({ kind, bucket, name }) => (kind === "bucket" ? `bucket ${bucket}${name ? `, ${name}` : ""}`
  : `${kind}${name ? ` ${name}` : ""}${bucket ? ` of bucket ${bucket}` : ""}`);

// The parts of the status ---------------------------------------------------------------------------------------------

const SIGNS = { ok: "✓", degraded: "▲", critical: "■", unknown: "?" };
const TITLES = { ok: "OK", degraded: "Degraded", critical: "Critical", unknown: "No contact" };
const COLORS = { ok: "2f7d4f", degraded: "b27a00", critical: "b31d2c", unknown: "5b6770" };

function verdict(status, summary, codes) {
  $("verdict").dataset.status = status;
  show("verdict-word", element("span", { class: "sign", "aria-hidden": true }, SIGNS[status] || "?"), TITLES[status] || words(status));
  show("summary", rich(summary));
  document.title = status === "ok" ? "tidegate" : `${TITLES[status]}: tidegate`;
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="#${COLORS[status]}"/></svg>`;
  const href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
  if ($("icon").getAttribute("href") !== href) $("icon").setAttribute("href", href);
  // A screen reader announces a change of the state or of the codes, and no change of a figure.
  const announcement = `${TITLES[status]}. ${codes.length === 0 ? "" : `Causes: ${codes.map(words).join(", ")}.`}`;
  if ($("announcement").textContent !== announcement) $("announcement").textContent = announcement;
}

function cause(of) {
  const { refused, slowed, stale } = of.effect;
  const touched = [refused && `${refused} refused`, slowed && `${slowed} slowed`, stale && `${stale} answered stale`].filter(Boolean).join(", ");
  const [measured, threshold] = [quantity(of.measured), quantity(of.threshold)];
  return element("li", { class: "cause", "data-severity": of.severity },
    element("h3", null, rich(of.message)),
    element("p", { class: "meta" }, state(of.severity), element("code", null, of.code), ` ${scope(of.scope)}, for ${duration(of.since_ms)} since `, time(of.since)),
    facts(["Measured", measured && `${measured}${threshold ? `, threshold ${threshold}` : ""}`],
      ["Effect", [...rich(unlinked(of.effect.text)), touched ? `: ${touched}` : ""]],
      ["Ends", [...(of.until ? ["at ", time(of.until), ", or when "] : ["when "]), ...rich(of.ends_when)]]),
    element("p", null, element("a", { href: `/${String(of.docs)}` }, `About ${of.code}`)));
}

function level(status) {
  const off = status.switched_off.length === 0 ? "nothing" : status.switched_off.map(words).join(", ");
  return [facts(["Level", [state(status.level), ` for ${duration(status.since_ms)}${status.stale ? ", not current: the sensors have not been read" : ""}`]],
    ["Last change", status.reason], ["Switched off", off]), actions(status.actions || []), cursors(status.shedding)];
}

// Those in force first.
function actions(list) {
  const rows = [...list].sort((one, other) => other.in_force - one.in_force).map((of) => [
    [words(of.name), element("small", null, rich(of.sentence))], state(of.in_force ? "in force" : "not in force"), state(of.on_level), of.mode,
    of.since ? ["since ", time(of.since), `: ${counted(of.touched_in_force, of.unit)}`] : "–", counted(of.touched, of.unit)]);
  return list.length === 0 ? null : table("Actions of the levels", ["Action", "State", "From level", "Mode", "Touched now", "Since the start"], rows);
}

function cursors(shedding) {
  if (!shedding || !shedding.process) return null;
  const row = (name, of) => [[name, element("small", null, rich(of.sentence))], number(of.cursor), milliseconds(of.wait_ms), milliseconds(of.target_ms), of.mode, of.refused, of.shadowed];
  const rows = [row("process", shedding.process), ...Object.entries(shedding.buckets).map(([name, of]) => row(`bucket ${name}`, of))];
  return table("Shedding", ["Cursor of", "Cursor", "Wait", "Target", "Mode", "Refused", "Would refuse"], rows);
}

function resources(status) {
  const rows = Object.entries(status.resources).map(([name, of]) => {
    const age = of.age_ms === null || of.age_ms === undefined ? "–" : duration(of.age_ms);
    const title = [words(name), element("small", null, [of.subject, of.why, of.limit_source && `limit from ${of.limit_source}`].filter(Boolean).join("; "))];
    if (of.unknown) return [title, state("unknown"), "–", "–", age];
    const percent = Math.round((of.pressure ?? 0) * 1000) / 10;
    return [title, quantity({ value: of.used, unit: of.unit }), quantity({ value: of.limit, unit: of.unit }), [meter(`${words(name)}: ${percent} %`, percent, 100), ` ${percent} %`], age];
  });
  return table("Readings of the sensors", ["Sensor", "Used", "Limit", "Pressure", "Age"], rows);
}

// The waits that move the cursors.
function waits(of) {
  if (!of) return null;
  const all = [...of.event_loop.map((lag) => [`event loop of worker ${lag.worker}`, lag]), ["mailboxes", of.mailboxes],
    ...Object.entries(of.buckets).map(([name, wait]) => [`bucket ${name}`, wait])];
  return table("Waits", ["Wait of", "Mean", "Threshold", "Age"], all.map(([name, it]) => [name, milliseconds(it.value_ms), milliseconds(it.threshold_ms), milliseconds(it.age_ms)]));
}

// A state, its cause and the time until it may change.
const state_of = (of, ms) => [state(of.state), [of.cause && words(of.cause), ms !== null && `for ${duration(ms)}`].filter(Boolean).join(", ")];

function circuits({ mode, ...of }) {
  const rows = Object.entries(of).map(([name, it]) => [words(name), state_of(it, it.open_for_ms), it.consecutive_failures, it.opened_total, `${it.held} of ${it.max_held}`]);
  return table(`Circuits, mode ${words(mode)}`, ["Operations", "State", "Failures", "Opened", "Wait for it"], rows);
}

function bucket([name, { kind, pattern, breaker, pool }]) {
  const gate = (label, value, max) => [`${value} of ${max} `, meter(`${label}: ${value} of ${max}`, value, max)];
  const endpoints = pool.endpoints.map((of) => [of.authority, state_of(of, of.out_for_ms), of.in_flight, milliseconds(of.latency_ms), of.ejections]);
  const credentials = pool.credentials.map((of) => [of.name, state_of(of, of.out_for_ms), of.in_flight, of.throttled, of.refused]);
  const is_open = Object.keys(shown.buckets).length <= BUCKETS_WITH_PLOTS;
  return element("article", { class: "card", "aria-label": `Bucket ${name}` },
    element("h3", null, name, " ", element("small", null, pattern === name ? kind : `${kind}, ${pattern}`)),
    facts(["In flight", gate("In flight", pool.in_flight, pool.max_concurrent)], ["Queue", gate("Queue", pool.queued, pool.max_queued)],
      ["Connections", pool.connections], ["Attempts", `${number(pool.amplification)} for each request`],
      ["Learnt limit", pool.adaptive && `${pool.adaptive.limit}, by ${words(pool.adaptive.cause)}`]),
    circuits(breaker),
    table(`Endpoints of ${name}`, ["Endpoint", "State", "In flight", "Latency", "Ejections"], endpoints),
    credentials.length > 0 ? table(`Credentials of ${name}`, ["Credential", "State", "In flight", "Throttled", "Refused"], credentials) : null,
    element("details", { open: is_open, "data-bucket": name }, element("summary", null, `Latency and load of ${name}, last 10 minutes`),
      element("div", { class: "plots", "data-keep": true })));
}

function clients(status) {
  const top = status.shedding && status.shedding.top_clients;
  return [facts(["Connections", `${status.clients.open} open, ${status.clients.idle} idle`], ["Requests in flight", status.requests_in_flight],
    ["Addresses with rate limits", status.limiter && status.limiter.clients], ["Cached identities", status.sessions && `${status.sessions.entries} of ${status.sessions.capacity}`]),
  top ? table("Clients with the highest cost", ["Client", "Share of all", "Cost per second"], top.map((of) => [of.client, `${number(of.share * 100)} %`, number(of.cost_per_second)])) : null];
}

function render(status) {
  shown = status;
  verdict(status.status, status.summary, status.causes.map((of) => of.code));
  show("about", document.createTextNode(`version ${status.version}, up ${duration(status.uptime_ms)}${drain(status.drain)}`));
  show("causes", status.causes.map(cause));
  show("level", level(status));
  show("resources", resources(status), waits(status.waits));
  show("bucket-list", Object.entries(status.buckets).map(bucket));
  const actors = Object.entries(status.actors).map(([name, of]) => [name, state(of.state), of.generation, of.restarts, `${of.mailbox_depth} of ${of.mailbox_capacity}`, of.handled, of.poisoned]);
  show("actor-table", table("Actors", ["Actor", "State", "Generation", "Restarts", "Mailbox", "Handled", "Poisoned"], actors));
  show("client-table", clients(status));
  const changes = status.events.slice(-ROWS_MAX).reverse().map((of) => [time(of.at), state(of.change), of.cause.code, scope(of.cause.scope), rich(of.cause.message), of.lasted_ms === undefined ? "–" : duration(of.lasted_ms)]);
  show("change-table", table("Causes that began and ended, the newest first", ["Time", "Change", "Cause", "Scope", "Message", "Lasted"], changes));
}

const drain = (of) => of ? `, ${of.phase.replace("_", " ")}: requests left ${of.requests} (${Object.entries(of.buckets).slice(0, 8).map((each) => each.join(" ")).join(", ") || "none"}), streams ${of.streams}, ${duration(of.remaining_ms)} left` : "";

// The API -------------------------------------------------------------------------------------------------------------

let shown = null;
let contact = null;
let is_live = false;

async function api(path, options) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000), ...options });
  if (response.status === 401 && !$("login")) location.reload();
  return response;
}

async function json(path) {
  const response = await api(path);
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(body.error ? body.error.message : `status ${response.status}`), { status: response.status });
  return body;
}

// Runs `step`, and again `pause()` ms after its end.
async function repeat(step, pause) {
  await step().catch(() => {});
  setTimeout(repeat, pause(), step, pause);
}

function mark_contact(state, text) {
  $("contact").dataset.state = state;
  show("contact", document.createTextNode(text));
}

async function refresh() {
  try {
    render(await json("/status"));
    contact = new Date().toISOString();
    mark_contact(is_live ? "live" : "polling", is_live ? "live" : "every 2 s");
  } catch (error) {
    const since = contact ? `The figures below are of ${contact.slice(11, 19)} UTC.` : "";
    verdict("unknown", `The gateway does not answer: ${error.message}. ${since}`, []);
    mark_contact("lost", "no contact");
  }
}

function listen() {
  const stream = new EventSource("/status/stream");
  stream.onopen = () => {
    is_live = true;
    mark_contact("live", "live");
  };
  stream.addEventListener("snapshot", (event) => render(JSON.parse(event.data)));
  stream.addEventListener("change", (event) => {
    const { events, ...change } = JSON.parse(event.data);
    if (shown) render({ ...shown, ...change, events: [...shown.events, ...events].slice(-64) });
    refresh();
  });
  stream.addEventListener("drain", (event) => shown && render({ ...shown, drain: JSON.parse(event.data) }));
  stream.addEventListener("sample", (event) => {
    for (const [name, now] of Object.entries(JSON.parse(event.data).buckets || {})) {
      if (shown && shown.buckets[name]) Object.assign(shown.buckets[name].pool, { in_flight: now.in_flight, queued: now.queued });
    }
    if (shown) show("bucket-list", Object.entries(shown.buckets).map(bucket));
  });
  stream.onerror = () => {
    stream.close();
    is_live = false;
    refresh();
    setTimeout(listen, STREAM_RETRY_MS);
  };
}

// The plots are drawn by the gateway; it escapes every text in them.
async function draw(box, path) {
  const response = await api(path);
  if (response.ok) fill(box, [...new DOMParser().parseFromString(await response.text(), "text/html").body.children]);
}

const plots_of = (part) => (part.dataset.bucket === undefined ? Promise.resolve()
  : draw(part.querySelector(".plots"), `/status/plots?${new URLSearchParams({ bucket: part.dataset.bucket })}`));

async function plots() {
  await draw($("plots"), "/status/plots");
  for (const part of document.querySelectorAll("details[data-bucket][open]")) await plots_of(part);
}

async function decisions() {
  const id = $("request-id").value.trim();
  const query = new URLSearchParams(id ? { request_id: id, limit: ROWS_MAX } : { limit: ROWS_MAX });
  try {
    const found = await json(`/decisions?${query}`);
    const figures = (of) => {
      const [measured, threshold] = [quantity({ value: of.measured, unit: of.unit }), quantity({ value: of.threshold, unit: of.unit })];
      return measured && threshold ? `${measured}, threshold ${threshold}` : measured || (threshold && `threshold ${threshold}`);
    };
    const rows = found.decisions.map((of) => [time(of.at), words(of.kind), of.reason, of.status, of.request_id && element("code", null, of.request_id), of.bucket,
      of.client_key || of.subject || of.client, figures(of), of.config && of.config.key]);
    const caption = id ? "Decisions about this request" : `Last decisions, ${found.recorded} since the start`;
    show("decision-table", table(caption, ["Time", "Kind", "Reason", "Status", "Request ID", "Bucket", "Client", "Measured", "Set by"], rows));
    show("search-error");
  } catch (error) {
    show("search-error", rich(error.message));
  }
}

async function story() {
  const id = $("request-id").value.trim();
  if (!id) return show("story");
  try {
    const found = await json(`/explain?${new URLSearchParams({ request_id: id })}`);
    show("story", element("ol", { class: "story", "aria-label": `What happened to request ${found.request_id}` }, found.sentences.map((each) => element("li", null, rich(each)))));
  } catch (error) {
    show("story", element("p", { class: "none" }, rich(error.message)));
  }
}

let keys = [];

function configuration() {
  const wanted = $("filter-text").value.trim().toLowerCase();
  const origin = (of) => [of.origin.kind, of.origin.name, of.origin.line && `line ${of.origin.line}`].filter(Boolean).join(", ");
  const value = (of) => (of.value === null ? "–" : of.unit === "bytes" && typeof of.value === "number" ? bytes(of.value) : `${plain(of.value)}${of.unit ? ` ${of.unit}` : ""}`);
  const found = keys.filter((of) => (!$("filter-set").checked || !of.is_default) && `${of.key} ${value(of)} ${origin(of)}`.toLowerCase().includes(wanted));
  const hour = ({ peak, limit, unit, hits, hit, suggestion }) => [`${peak === null ? "" : `peak ${number(peak)} of `}${plain(limit)} ${unit_of(limit, unit ?? "")}, ${counted(hits, hit)}`,
    suggestion && element("small", null, `Suggested: ${plain(suggestion.value)}. `, rich(suggestion.reason))];
  const rows = found.map((of) => [[of.key, element("small", null, rich(of.about))], value(of), origin(of), of.range, of.last_hour ? hour(of.last_hour) : "–"]);
  show("configuration-table", table(`Effective configuration, ${rows.length} of ${keys.length} keys`, ["Key", "Value", "Origin", "Accepted", "Last hour"], rows));
}

// Start ---------------------------------------------------------------------------------------------------------------

function start_login() {
  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    show("login-error");
    try {
      const answer = await api("/session", { method: "POST", body: new URLSearchParams({ token: $("token").value.trim() }), redirect: "manual" });
      if (answer.type === "opaqueredirect") return location.replace("/");
      show("login-error", rich((await answer.json()).error.message));
    } catch (error) {
      show("login-error", document.createTextNode(`The gateway does not answer: ${error.message}`));
    }
    $("token").select();
  });
}

function start() {
  // The parts of the buckets are there after the first status.
  refresh().then(() => repeat(plots, () => PLOTS_MS));
  setTimeout(repeat, POLL_MS, refresh, () => (is_live ? POLL_BESIDE_STREAM_MS : POLL_MS));
  $("bucket-list").addEventListener("toggle", ({ target }) => target.open && plots_of(target).catch(() => {}), true);
  repeat(async () => ($("request-id").value.trim() ? null : decisions()), () => PLOTS_MS);
  listen();
  const find = () => Promise.all([decisions(), story()]);
  $("search").addEventListener("submit", (event) => { event.preventDefault(); find(); });
  $("search").addEventListener("reset", () => setTimeout(find));
  repeat(async () => { keys = (await json("/config")).keys; configuration(); }, () => CONFIGURATION_MS);
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("filter").addEventListener("input", configuration);
  if ($("logout")) $("logout").addEventListener("click", () => api("/session", { method: "DELETE" }).finally(() => location.reload()));
}

if ($("login")) start_login(); else start();
