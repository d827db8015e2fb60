// The EHR's side of CDS Hooks: discovery, hook calls with prefetch, cards, suggestions, feedback. Answers are not
// trusted: text is inserted as text, and the server renders card detail with raw HTML off.
"use strict";

const state = { services: new Map(), patient: null, turn: 0 };
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function post(url, body) {
  return fetch(url, { method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json" }, body: JSON.stringify(body) });
}

function say(text, error = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", error);
}

async function discover() {
  const answer = await fetch("/cds-services", { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`discovery answered ${answer.status}`);
  for (const service of (await answer.json()).services) state.services.set(service.id, service);
}

async function openPatient(id) {
  sendUnsent();
  state.patient = id;
  closeApp();
  delete byId("cards").dataset.answered;
  for (const button of document.querySelectorAll(".patient")) button.setAttribute("aria-current", String(button.dataset.patient === id));
  const answer = await fetch(`/demo/patients/${encodeURIComponent(id)}`);
  byId("chart").innerHTML = answer.ok ? await answer.text() : "";
  if (!answer.ok) byId("chart").textContent = `The chart could not be opened (status ${answer.status}). Load this page again, or choose another patient.`;
  byId("chart").scrollTop = 0;
  const admitted = document.querySelector(".patient[aria-current=true]")?.hasAttribute("data-stay");
  // A patient who is not in hospital is neither admitted nor discharged here.
  for (const button of document.querySelectorAll(".hooks button")) {
    button.disabled = false;
    button.hidden = !admitted && button.dataset.service !== "hospital-risk";
  }
  await fire("hospital-risk");
}

async function fire(serviceId) {
  const turn = ++state.turn;
  const service = state.services.get(serviceId);
  for (const button of document.querySelectorAll(".hooks button")) button.setAttribute("aria-pressed", String(button.dataset.service === serviceId));
  say(`${service.hook}: asking ${service.title}…`);
  byId("cards").replaceChildren();
  delete byId("cards").dataset.answered;
  byId("inspector").hidden = true;
  const prepared = await post(`/demo/api/request/${serviceId}/${encodeURIComponent(state.patient)}`, {});
  const request = await prepared.json();
  if (!prepared.ok) return problem(request, prepared.status);
  const started = performance.now();
  const answer = await post(`/cds-services/${serviceId}`, request);
  const body = await answer.json();
  const milliseconds = Math.round(performance.now() - started);
  if (turn !== state.turn) return undefined;
  inspect(service, request, answer.status, body, milliseconds);
  if (!answer.ok) return problem(body, answer.status);
  const later = service.hook === "encounter-start" ? ": the estimate 24 hours after admission; at admission itself too little is known" : "";
  say(`${service.hook} answered in ${milliseconds} ms${later}`);
  const drawn = await Promise.all(body.cards.map((card) => drawCard(serviceId, card, request.hookInstance)));
  if (turn !== state.turn) return undefined;
  byId("cards").replaceChildren(...(drawn.length ? drawn : [noCard(request.hookInstance)]));
  byId("cards").dataset.answered = serviceId;
  return undefined;
}

// What to try, by the status of the answer; the service's own words say what happened.
const TRY = { 401: "Start the demo again: it makes its own login.", 404: "Load this page again.", 412: "Choose another event or patient.", 413: "This chart is larger than the service accepts.", 429: "Wait a minute, then open the chart again.", 503: "The service is busy: wait a few seconds, then open the chart again." };

function problem(outcome, status) {
  say(`The service answered ${status}.`, true);
  const why = (outcome.issue || []).map((issue) => issue.diagnostics || issue.code).join("; ");
  const next = TRY[status] || "Open the chart again; if it fails again, look at the output of riskcards demo.";
  byId("cards").replaceChildren(element("div", { class: "problem", role: "alert" }, element("p", {}, `No card: ${why || "the service gave no reason"}.`), element("p", {}, next)));
}

const traceLink = (hookInstance, words) => element("a", { href: `/demo/trace/${encodeURIComponent(hookInstance)}`, target: "_blank", rel: "noopener noreferrer" }, words);

function noCard(hookInstance) {
  return element("p", { class: "none" }, "No card for this patient and event. ", traceLink(hookInstance, "Request trace"));
}

async function drawCard(serviceId, card, hookInstance) {
  const detail = element("div", { class: "detail" });
  if (card.detail) {
    const rendered = await post("/demo/api/markdown", { text: card.detail });
    if (rendered.ok) detail.innerHTML = await rendered.text();
    else detail.textContent = card.detail;
  }
  const node = element("article", { class: `card ${card.indicator}`, "data-card": card.uuid },
    element("h3", {}, card.summary),
    element("p", { class: "source" }, "Source: ", element("a", { href: card.source.url, target: "_blank", rel: "noopener noreferrer" }, card.source.label)),
    overrideForm(serviceId, card),
    detail,
    ...linksOf(card, "smart"),
    suggestionList(serviceId, card),
    element("p", { class: "links" }, traceLink(hookInstance, "Request trace"), ...linksOf(card, "absolute")));
  return node;
}

const linksOf = (card, type) => (card.links || []).filter((link) => link.type === type).map(drawLink);

function drawLink(link) {
  if (link.type !== "smart") return element("a", { href: link.url, target: "_blank", rel: "noopener noreferrer" }, link.label);
  return element("button", { type: "button", class: "launch", on: { click: () => guarded(() => openApp(link)) } }, link.label);
}

// An EHR launches a smart link with its FHIR base URL and a launch code (SMART 2.2). If the demo is not reached at the
// address it was started with, the launch cannot redirect back, so the app is opened on the chart directly.
async function openApp(link) {
  const launches = document.body.dataset.launches === "yes" && new URL(link.url).origin === location.origin;
  byId("app-frame").src = launches ? await launchUrl(link) : `/demo/app/${encodeURIComponent(state.patient)}/`;
  const row = document.querySelector(".patient[aria-current=true]");
  byId("app-patient").textContent = row ? `${row.querySelector(".name").textContent} · ${row.querySelector(".who").textContent}` : "";
  byId("app-place").hidden = false;
  byId("chart").hidden = true;
  byId("app-close").focus();
}

async function launchUrl(link) {
  const answer = await post(`/demo/api/launch/${encodeURIComponent(state.patient)}`, {});
  if (!answer.ok) throw new Error(`the launch was refused (${answer.status})`);
  const { iss, launch } = await answer.json();
  return `${link.url}?${new URLSearchParams({ iss, launch })}`;
}

function closeApp() {
  if (byId("app-place").hidden) return;
  byId("app-frame").removeAttribute("src");
  byId("app-place").hidden = true;
  byId("chart").hidden = false;
}

function suggestionList(serviceId, card) {
  if (!card.suggestions) return null;
  return element("div", { class: "suggestions" }, ...card.suggestions.map((suggestion) => {
    const button = element("button", { type: "button", on: { click: async () => {
      button.disabled = true;
      const done = await feedback(serviceId, { card: card.uuid, outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }], outcomeTimestamp: new Date().toISOString() });
      if (done) button.textContent = `✓ ${suggestion.label}`;
      else button.disabled = false;
    } } }, `+ ${suggestion.label}`);
    return button;
  }));
}

const UNDO_MS = 5000;
const unsent = new Set();

// The card closes at once; the feedback is sent when it can no longer be undone: an EHR cannot recall it.
function dismiss(serviceId, entry, card, words) {
  const sent = () => feedback(serviceId, entry, true);
  const waiting = { send: () => { clearTimeout(waiting.timer); unsent.delete(waiting); undo.remove(); return sent(); } };
  const undo = element("button", { type: "button", class: "undo", on: { click: () => {
    clearTimeout(waiting.timer);
    unsent.delete(waiting);
    bar.remove();
    card.hidden = false;
    card.querySelector(".dismiss").focus();
    say("Dismissal undone.");
  } } }, "Undo");
  const show = element("button", { type: "button", on: { click: () => { card.hidden = !card.hidden; show.textContent = card.hidden ? "Show" : "Hide"; } } }, "Show");
  const bar = element("p", { class: "dismissed" }, element("span", {}, `Dismissed${words ? `: ${words}` : ""}`), undo, show);
  card.hidden = true;
  card.before(bar);
  undo.focus();
  waiting.timer = setTimeout(() => guarded(waiting.send), UNDO_MS);
  unsent.add(waiting);
}

const sendUnsent = () => { for (const one of [...unsent]) guarded(one.send); };

function overrideForm(serviceId, card) {
  const choice = element("select", { "aria-label": "Reason" }, element("option", { value: "" }, "Reason"),
    ...(card.overrideReasons || []).map((reason) => element("option", { value: reason.code }, reason.display)));
  const comment = element("input", { type: "text", placeholder: "Comment", "aria-label": "Comment", maxlength: "500" });
  const button = element("button", { type: "button", class: "dismiss", on: { click: () => {
    const reason = (card.overrideReasons || []).find((item) => item.code === choice.value);
    const entry = { card: card.uuid, outcome: "overridden", outcomeTimestamp: new Date().toISOString() };
    if (reason || comment.value) entry.overrideReason = { ...(reason ? { reason: { code: reason.code, system: reason.system } } : {}), ...(comment.value ? { userComment: comment.value } : {}) };
    dismiss(serviceId, entry, button.closest(".card"), reason ? reason.display : "");
  } } }, "Dismiss");
  return element("div", { class: "override" }, button, choice, comment);
}

async function feedback(serviceId, entry, leaving = false) {
  const answer = await fetch(`/cds-services/${serviceId}/feedback`, { method: "POST", keepalive: leaving, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ feedback: [entry] }) });
  say(answer.ok ? "Feedback recorded." : `Feedback was rejected (status ${answer.status}): open the chart again and repeat it.`, !answer.ok);
  return answer.ok;
}

function inspect(service, request, status, body, milliseconds) {
  const sent = JSON.stringify(request);
  const facts = [["hook", service.hook], ["POST", `/cds-services/${service.id}`], ["sent", `${(sent.length / 1024).toFixed(0)} KB, ${Object.keys(request.prefetch).length} prefetch keys`], ["answered", `${status} in ${milliseconds} ms`]];
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  byId("sent").textContent = clip(JSON.stringify(request, null, 1));
  byId("received").textContent = clip(JSON.stringify(body, null, 1));
  byId("inspector").hidden = false;
  guarded(() => showTimes(request.hookInstance));
}

async function showTimes(hookInstance) {
  const answer = await fetch(`/demo/api/trace/${encodeURIComponent(hookInstance)}`);
  const steps = answer.ok ? await answer.json() : [];
  byId("times").replaceChildren(...steps.map((one) => element("tr", {}, element("td", {}, one.package), element("td", {}, one.step), element("td", { class: "n" }, one.milliseconds.toFixed(1)))));
}

// Fills in the risks of the ward one by one after the page is shown.
async function fillRisks() {
  for (const place of document.querySelectorAll(".risks[data-ask]")) {
    const answer = await fetch(`/demo/api/risk/${encodeURIComponent(place.closest(".patient").dataset.patient)}`);
    if (!answer.ok) continue;
    place.replaceChildren(...(await answer.json()).map((one) => element("span", { class: one.warns ? "risk warns" : "risk", title: one.says, "data-task": one.task, "data-place": String(one.place) }, `${one.label} `, element("b", {}, one.words))));
    place.removeAttribute("data-ask");
  }
}

// By one outcome, the highest first; patients without an estimate follow, by the score shown instead.
function sortWard() {
  const task = byId("sort").value;
  const place = (row) => Number(row.querySelector(`[data-task="${task}"]`)?.dataset.place ?? -2);
  const rows = [...byId("patients").children];
  rows.forEach((row, number) => { row.dataset.listed ??= String(number); });
  rows.sort((a, b) => (task && place(b) - place(a)) || Number(a.dataset.listed) - Number(b.dataset.listed));
  byId("patients").replaceChildren(...rows);
}

const clip = (text) => (text.length > 60000 ? `${text.slice(0, 60000)}\n… ${text.length - 60000} more characters` : text);

// Opens the note of a timeline link and scrolls to it, without changing the address.
function openNote(event) {
  const link = event.target.closest("a[href^='#note']");
  const note = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!note) return;
  event.preventDefault();
  if (note.tagName === "DETAILS") note.open = true;
  note.scrollIntoView({ block: "nearest" });
  (note.tagName === "DETAILS" ? note.querySelector("summary") : note).focus();
}

async function start() {
  for (const button of document.querySelectorAll(".patient")) button.addEventListener("click", () => guarded(() => openPatient(button.dataset.patient)));
  for (const button of document.querySelectorAll(".hooks button")) button.addEventListener("click", () => guarded(() => fire(button.dataset.service)));
  byId("chart").addEventListener("click", openNote);
  byId("app-close").addEventListener("click", closeApp);
  byId("sort").addEventListener("change", sortWard);
  window.addEventListener("pagehide", sendUnsent);
  await discover();
  const first = decodeURIComponent(location.hash.slice(1)) || document.querySelector(".patient")?.dataset.patient;
  if (first) await openPatient(first);
  await fillRisks();
  sortWard();
}

function guarded(action) {
  return action().catch((error) => say(`This did not work: ${error.message}. Check that riskcards demo is still running, then load this page again.`, true));
}

guarded(start);
