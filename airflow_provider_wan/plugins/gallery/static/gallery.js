"use strict";
// SPDX-License-Identifier: Apache-2.0

const STATES = ["claimed", "submitted", "succeeded", "archived", "failed", "in_doubt", "cancelled"];
const LABELS = {
  claimed: "claimed", submitted: "in flight", succeeded: "succeeded", archived: "archived",
  failed: "failed", in_doubt: "in doubt", cancelled: "cancelled",
};
const HINTS = {
  claimed: "A task is about to submit it.",
  submitted: "The service is making it.",
  succeeded: "Made, and not in the bucket yet.",
  in_doubt: "It is not known whether the service accepted it.",
  cancelled: "Cancelled; not charged.",
};
const REFRESH_MS = 5000;
const main = document.getElementById("main");
const dialog = document.getElementById("detail");
const base = new URL(document.baseURI).pathname;

function followTheme() {
  let host = null;
  try { host = window.parent !== window ? window.parent.document.documentElement : null; } catch { host = null; }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const named = host && (host.classList.contains("dark") ? "dark" : host.classList.contains("light") ? "light" : null);
    const stored = localStorage.getItem("theme");
    const theme = named || (stored === "dark" || stored === "light" ? stored : dark.matches ? "dark" : "light");
    document.documentElement.classList.toggle("dark", theme === "dark");
  };
  apply();
  dark.addEventListener("change", apply);
  if (host) new MutationObserver(apply).observe(host, { attributes: true, attributeFilter: ["class"] });
}

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const usd = (value) => (value === null || value === undefined ? "no price"
  : value.toLocaleString("en-US", { style: "currency", currency: "USD" }));
const when = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "");
function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function readScope() {
  const path = location.pathname.slice(base.length);
  // Airflow 3.1 puts names into the address as they are: a percent sign may be only that.
  const decode = (text) => { try { return decodeURIComponent(text); } catch { return text.replace(/%20/g, " "); } };
  let found = path.match(/^dags\/([^/]+)\/runs\/(.+)\/tasks\/([^/]+)\/(-?\d+)$/);
  if (found) return { dag_id: decode(found[1]), run_id: decode(found[2]), task_id: decode(found[3]), map_index: found[4] };
  found = path.match(/^dags\/([^/]+)\/runs\/(.+)$/);
  if (found) return { dag_id: decode(found[1]), run_id: decode(found[2]) };
  found = path.match(/^dags\/([^/]+)\/tasks\/([^/]+)$/);
  if (found) return { dag_id: decode(found[1]), task_id: decode(found[2]) };
  found = path.match(/^dags\/([^/]+)$/);
  return found ? { dag_id: decode(found[1]) } : {};
}

const scope = readScope();
const hash = new URLSearchParams(location.hash.slice(1));
const view = {
  spend: location.pathname === `${base}spend` || hash.get("view") === "spend",
  states: new Set((hash.get("states") || "").split(",").filter((state) => STATES.includes(state))),
  text: hash.get("text") || "",
  dag: hash.get("dag") || "",
  page: parseInt(hash.get("page"), 10) || 1,
  size: parseInt(hash.get("size"), 10) || 24,
};
// Those that were seen: an answer that is limited to a Dag names no other.
const dags = new Set(view.dag ? [view.dag] : []);

function remember() {
  const now = new URLSearchParams();
  if (view.spend) now.set("view", "spend");
  if (view.states.size) now.set("states", [...view.states].join(","));
  if (view.text) now.set("text", view.text);
  if (view.dag) now.set("dag", view.dag);
  if (view.page > 1) now.set("page", view.page);
  if (view.size !== 24) now.set("size", view.size);
  history.replaceState(null, "", `${location.pathname}#${now}`);
}

function query() {
  const search = new URLSearchParams(scope);
  if (!scope.dag_id && view.dag) search.set("dag_id", view.dag);
  for (const state of view.states) search.append("state", state);
  if (view.text) search.set("text", view.text);
  search.set("page", view.page);
  search.set("size", view.size);
  return search;
}

async function call(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) {
    const texts = { 401: "You are not logged in.", 403: "You may not read this Dag.", 404: "There is no such clip." };
    throw Object.assign(new Error(texts[answer.status] || `Airflow answered ${answer.status}.`), { status: answer.status });
  }
  return answer.json();
}

function showStatus(data) {
  const problem = document.getElementById("problem");
  problem.hidden = !data.error;
  problem.textContent = data.error ? `The ledger can't be read now; what was read before is shown. ${data.error}` : "";
  const read = data.read_at ? `read ${span(Math.max(0, data.now - data.read_at))} ago` : "";
  document.getElementById("status").textContent = data.reading && !data.read_at ? "Reading the ledger…" : read;
}

function stateBadge(state) {
  return el("span", { class: `state s-${state}`, title: HINTS[state] || "" }, LABELS[state] || state);
}

const observer = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    target.src = target.dataset.src;
    observer.unobserve(target);
  }
}, { rootMargin: "200px" });

function lazy(node, source) {
  node.dataset.src = source;
  observer.observe(node);
  return node;
}

function mediaOf(clip) {
  const media = el("button", { class: "media", type: "button", "aria-label": `Show ${clip.name}`, onclick: () => openDetail(clip) });
  if (clip.archive_uri) {
    const video = el("video", { muted: true, playsinline: true, preload: "metadata", tabindex: "-1" });
    video.addEventListener("error", () => {
      media.querySelector(".play").remove();
      video.replaceWith(el("span", { class: "none" }, "The clip can't be loaded."));
    });
    media.append(lazy(video, `media/${clip.id}/video#t=0.1`), el("span", { class: "play" }));
    if (clip.source_uri) media.append(sourceImage(clip, "thumb"));
  } else if (clip.source_uri) {
    media.append(sourceImage(clip, ""));
  } else {
    media.append(el("span", { class: "none" }, HINTS[clip.state] || "No clip."));
  }
  return media;
}

function sourceImage(clip, name) {
  const image = el("img", { class: name, alt: "source image" });
  image.addEventListener("error", () => image.remove());
  return lazy(image, `media/${clip.id}/source`);
}

function card(clip) {
  const place = [clip.task_id, clip.map_index !== null && clip.map_index >= 0 ? `[${clip.map_index}]` : ""].filter(Boolean).join(" ");
  return el("article", { class: "card", "data-clip": clip.id, "data-state": clip.state },
    mediaOf(clip),
    el("div", { class: "text" },
      el("div", { class: "row" }, el("span", { class: "name", title: clip.name }, clip.name), stateBadge(clip.state)),
      el("div", { class: "row muted" },
        el("span", {}, `${clip.resolution} · ${clip.seconds} s`),
        el("span", { title: clip.cost === null ? "estimate" : "charged" }, clip.cost === null ? `≈ ${usd(clip.estimate)}` : usd(clip.cost))),
      el("div", { class: "row muted" },
        el("span", { title: when(clip.started_at) }, scope.run_id ? place : clip.dag_id || "no Dag"),
        el("span", { title: "time at the service" }, span(clip.waited))),
      clip.reason ? el("div", { class: "reason", title: clip.reason }, clip.reason) : null,
      clip.duplicates.length ? el("div", { class: "reason" }, `charged again as ${clip.duplicates.join(", ")}`) : null));
}

function totalsBar(data) {
  const bar = el("div", { class: "totals", role: "group", "aria-label": "States" });
  const all = el("button", { type: "button", "aria-pressed": String(!view.states.size), onclick: () => { view.states.clear(); view.page = 1; draw(); } },
    el("b", {}, data.totals.clips.toLocaleString()), el("small", {}, `clips · ${usd(data.totals.charged)}`));
  bar.append(all);
  for (const state of STATES) {
    const row = data.totals.states[state];
    if (!row) continue;
    const money = row.charged ? usd(row.charged) : row.estimate && state !== "failed" && state !== "cancelled" ? `≈ ${usd(row.estimate)}` : "$0.00";
    bar.append(el("button", {
      type: "button", "aria-pressed": String(view.states.has(state)), title: HINTS[state] || "",
      onclick: () => { view.states.has(state) ? view.states.delete(state) : view.states.add(state); view.page = 1; draw(); },
    }, el("b", { class: `s-${state}` }, row.clips.toLocaleString()), el("small", {}, `${LABELS[state]} · ${money}`)));
  }
  return bar;
}

function progressBar(data) {
  const bar = el("div", { class: "progress", role: "img", "aria-label": "Clips by state" });
  for (const state of ["archived", "succeeded", "failed", "in_doubt", "cancelled", "submitted", "claimed"]) {
    const row = data.totals.states[state];
    if (!row) continue;
    const part = el("i", { class: `b-${state}`, title: `${LABELS[state]}: ${row.clips}` });
    part.style.width = `${(100 * row.clips) / data.totals.clips}%`;
    bar.append(part);
  }
  return bar;
}

function batchLine(batch) {
  const parts = [`${batch.done.toLocaleString()} of ${batch.total === null ? "?" : batch.total.toLocaleString()} rows done`,
    `${batch.archived.toLocaleString()} archived`];
  if (batch.in_flight) parts.push(`${batch.in_flight} in flight`);
  if (batch.max_cost !== null) parts.push(`${usd(batch.spent)} of ${usd(batch.max_cost)} budget used`);
  if (batch.ended) parts.push("ended");
  return el("p", { class: "muted" }, `Batch ${batch.name}: ${parts.join(" · ")}`);
}

function dagFilter(data) {
  const select = el("select", { "aria-label": "Dag", id: "dag" });
  select.addEventListener("change", () => { view.dag = select.value; view.page = 1; draw(); });
  fillDagFilter(select, data);
  return select;
}

function fillDagFilter(select, data) {
  for (const dag of data.dags) dags.add(dag);
  select.hidden = Boolean(scope.dag_id) || (dags.size < 2 && !view.dag);
  if (select.options.length !== dags.size + 1)
    select.replaceChildren(el("option", { value: "" }, "All Dags"), ...[...dags].sort().map((dag) => el("option", { value: dag }, dag)));
  select.value = view.dag;
}

let typing = 0;
function filterBar(data) {
  const search = el("input", { type: "search", placeholder: "Search name, id, run or reason", "aria-label": "Search", value: view.text });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { view.text = search.value; view.page = 1; refresh(); }, 250);
  });
  const bar = el("div", { class: "bar" }, search, dagFilter(data));
  const size = el("select", { "aria-label": "Clips on a page" }, ...[24, 48, 96].map((n) => el("option", { value: n, selected: n === view.size }, `${n} a page`)));
  size.addEventListener("change", () => { view.size = Number(size.value); view.page = 1; draw(); });
  bar.append(size, el("div", { class: "pager", id: "pager" }));
  return bar;
}

function fillPager(data) {
  const move = (page) => () => { view.page = page; draw(); };
  document.getElementById("pager").replaceChildren(
    el("button", { type: "button", disabled: data.page <= 1, onclick: move(data.page - 1) }, "Previous"),
    `${data.matching.toLocaleString()} clips · page ${data.page} of ${data.pages}`,
    el("button", { type: "button", disabled: data.page >= data.pages, onclick: move(data.page + 1) }, "Next"));
}

function emptyNote(data) {
  if (data.reading && data.read_at === null) return "Reading the ledger…";
  if (data.totals.clips) return "No clip matches the filters.";
  return scope.dag_id ? "No clip has been requested here yet." : "The ledger is empty. Clips appear here when a task requests them.";
}

const shown = new Map();
function fillGrid(grid, data) {
  const nodes = data.clips.map((clip) => {
    const known = shown.get(clip.id);
    const same = JSON.stringify({ ...clip, waited: null });
    if (known && known.same === same && known.node.isConnected) return known.node;
    const node = card(clip);
    shown.set(clip.id, { same, node });
    return node;
  });
  if (nodes.length) {
    if (nodes.length !== grid.children.length || nodes.some((node, i) => grid.children[i] !== node)) grid.replaceChildren(...nodes);
  } else grid.replaceChildren(el("p", { class: "empty" }, emptyNote(data)));
}

function drawGallery(data, fresh) {
  view.page = data.page;
  remember();
  const top = el("div", { id: "top" }, totalsBar(data), data.totals.clips ? progressBar(data) : "", ...(data.batches || []).map(batchLine));
  let grid = document.getElementById("grid");
  if (fresh || !grid) {
    grid = el("div", { class: "grid", id: "grid" });
    main.replaceChildren(top, filterBar(data), grid);
  } else {
    document.getElementById("top").replaceWith(top);
    fillDagFilter(document.getElementById("dag"), data);
  }
  fillPager(data);
  fillGrid(grid, data);
}

function table(title, rows, labels = new Map()) {
  return el("section", {}, el("h2", {}, title), el("table", {},
    el("thead", {}, el("tr", {}, ...["", "Clips", "Estimate", "Charged", "Reused", "Saved", "Duplicate charges"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, el("td", {}, labels.get(row.name) || row.name), el("td", {}, row.clips.toLocaleString()),
      el("td", {}, usd(row.estimate)), el("td", {}, usd(row.charged)), el("td", {}, String(row.reused)), el("td", {}, usd(row.saved)), el("td", {}, String(row.duplicates)))))));
}

const PLOTTED_DAYS = 60;
function calendar(days) {
  const known = new Map(days.map((day) => [day.name, day]));
  const last = Date.parse(`${days.at(-1).name}T00:00:00Z`);
  const names = [...Array(PLOTTED_DAYS).keys()].map((n) => new Date(last - n * 86400000).toISOString().slice(0, 10));
  return names.reverse().filter((name) => name >= days[0].name).map((name) => known.get(name) || { name, estimate: 0, charged: 0 });
}

function plot(days) {
  const shownDays = calendar(days);
  const width = 900, height = 200, left = 78, bottom = 24;
  const top = Math.max(...shownDays.map((day) => Math.max(day.estimate, day.charged)), 0.01);
  const step = (width - left) / Math.max(shownDays.length, 1);
  const scale = (value) => ((height - bottom - 12) * value) / top;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "US dollars by day", width: "100%" });
  for (const part of [0, 0.5, 1]) {
    const y = height - bottom - scale(top * part);
    picture.append(svg("line", { x1: left, x2: width, y1: y, y2: y }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, usd(top * part)));
  }
  shownDays.forEach((day, i) => {
    const x = left + i * step, bar = Math.min(step * 0.7, 48), start = x + (step - bar) / 2;
    const rect = (name, value) => svg("rect", { class: name, x: start, y: height - bottom - scale(value), width: bar, height: scale(value), rx: 2 },
      svg("title", {}, `${day.name}: ${name} ${usd(value)}`));
    picture.append(rect("estimate", day.estimate), rect("charged", day.charged));
    if (i % Math.ceil(shownDays.length / 12) === 0) picture.append(svg("text", { x: x + step / 2, y: height - 7, "text-anchor": "middle" }, day.name.slice(5)));
  });
  const legend = el("p", { class: "legend" });
  for (const [name, colour] of [["charged", "--bar-charged"], ["estimate", "--bar-estimate"]]) {
    const dot = el("i");
    dot.style.background = `var(${colour})`;
    legend.append(el("span", {}, dot, name));
  }
  const title = shownDays[0].name > days[0].name ? `US dollars by day, the last ${PLOTTED_DAYS} days` : "US dollars by day";
  return el("section", {}, el("h2", {}, title), picture, legend);
}

function drawSpend(data) {
  remember();
  const parts = [totalsBar(data), el("div", { class: "bar" }, dagFilter(data))];
  if (data.totals.unpriced) parts.push(el("p", { class: "muted" }, `${data.totals.unpriced} clips have no price: their model is not in the price list.`));
  if (data.by_day.length) parts.push(plot(data.by_day), table("By Dag", data.by_dag), table("By day (UTC)", [...data.by_day].reverse()), table("By state", data.by_state, new Map(Object.entries(LABELS))));
  else parts.push(el("p", { class: "empty" }, emptyNote(data)));
  main.replaceChildren(...parts);
}

function facts(pairs) {
  const list = el("dl");
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") list.append(el("dt", {}, name), el("dd", {}, String(value)));
  return list;
}

async function openDetail(clip) {
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const pair = el("div", { class: "pair" });
  if (clip.archive_uri) {
    const video = el("video", { src: `media/${clip.id}/video`, controls: true, autoplay: true, muted: true, loop: true, playsinline: true });
    video.addEventListener("error", () => video.replaceWith(el("p", { class: "reason" },
      `The clip can't be loaded: it is no longer at ${clip.archive_uri}, or this browser does not reach the bucket.`)));
    pair.append(video);
  }
  if (clip.source_uri) {
    const image = el("img", { src: `media/${clip.id}/source`, alt: "source image" });
    image.addEventListener("error", () => image.remove());
    pair.append(image);
  }
  const prompt = el("div", {});
  dialog.replaceChildren(
    el("div", { class: "row" }, el("h2", {}, clip.name), stateBadge(clip.state), close), pair,
    clip.reason ? el("p", { class: "reason" }, clip.reason) : "", prompt,
    facts([
      ["Request id", clip.request_id], ["Model", clip.model], ["Video", `${clip.resolution}, ${clip.seconds} s`],
      ["Charged", clip.cost === null ? "" : usd(clip.cost)], ["Estimate", usd(clip.estimate)],
      ["Dag", clip.dag_id], ["Run", clip.run_id], ["Task", clip.task_id], ["Map index", clip.map_index],
      ["Requested", when(clip.started_at)], ["Ended", when(clip.finished_at)], ["Time at the service", span(clip.waited)],
      ["Requests", clip.attempts > 1 ? clip.attempts : ""], ["Charged again as", clip.duplicates.join(", ")],
      ["Archived at", clip.archive_uri], ["Source", clip.source_uri], ["Ledger entry", clip.fingerprint],
    ]));
  dialog.showModal();
  if (!clip.archive_uri) return;
  try {
    const details = await call(`api/clips/${clip.id}`);
    if (details.record_error) prompt.append(el("p", { class: "muted" }, details.record_error));
    const known = details.parameters;
    if (known.prompt) prompt.append(el("h2", {}, "Prompt"), el("p", { class: "prompt" }, known.prompt));
    if (known.negative_prompt) prompt.append(el("h2", {}, "Negative prompt"), el("p", { class: "prompt" }, known.negative_prompt));
    const rest = Object.entries(known).filter(([name, value]) => !/prompt$|_url$/.test(name) && value !== null);
    prompt.append(facts(rest));
  } catch (error) {
    prompt.append(el("p", { class: "muted" }, error.message));
  }
}
dialog.addEventListener("close", () => dialog.replaceChildren());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function drawTabs() {
  const go = (spend) => (event) => { event.preventDefault(); view.spend = spend; view.page = 1; draw(); };
  const tab = (text, spend) => el("a", { href: "#", "aria-current": view.spend === spend ? "page" : null, onclick: go(spend) }, text);
  document.getElementById("tabs").replaceChildren(tab("Clips", false), tab("Spend", true));
  document.getElementById("scope").textContent = [scope.dag_id, scope.run_id, scope.task_id,
    scope.map_index >= 0 ? `[${scope.map_index}]` : ""].filter(Boolean).join(" › ");
}

let latest = 0, waiting = 0;
async function update(fresh) {
  const mine = (latest += 1), spend = view.spend;
  waiting += 1;
  try {
    const data = await call(`api/${spend ? "spend" : "clips"}?${query()}`);
    // The answer to an older question must not replace that to a newer one.
    if (mine !== latest) return;
    showStatus(data);
    if (spend) drawSpend(data);
    else drawGallery(data, fresh);
  } catch (error) {
    if (mine !== latest) return;
    const problem = document.getElementById("problem");
    problem.hidden = false;
    problem.textContent = error.message;
    // Whoever may no longer read it sees it no longer.
    if (error.status === 401 || error.status === 403) main.replaceChildren();
    if (error.status === 403 && view.dag) {
      dags.delete(view.dag);
      view.dag = "";
    }
  } finally {
    waiting -= 1;
  }
}
const refresh = () => update(false);
const draw = () => { drawTabs(); return update(true); };

followTheme();
draw();
setInterval(() => { if (!document.hidden && !dialog.open && !waiting) refresh(); }, REFRESH_MS);
