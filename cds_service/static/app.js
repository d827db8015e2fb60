// Optional: the page works without scripts. Loads the risk over time and the literature, submits forms in place,
// highlights the evidence graph.
"use strict";

const fragment = (url, options = {}) => fetch(url, { ...options, headers: { ...(options.headers || {}), "X-Fragment": "1" } });

// Replaces the content of `place` when the answer arrives; opened details stay open.
async function load(place) {
  const waiting = place.dataset.words && document.createElement("p");
  if (waiting) {
    waiting.className = "dim";
    waiting.setAttribute("role", "status");
    waiting.textContent = place.dataset.words;
    place.prepend(waiting);
  }
  try {
    const answer = await fragment(place.dataset.load);
    if (!answer.ok) throw new Error(String(answer.status));
    const opened = [...place.querySelectorAll("[id]:has(> details[open])")].map((one) => one.id);
    const focused = place.contains(document.activeElement) ? document.activeElement.closest("[id]")?.id : null;
    place.innerHTML = await answer.text();
    for (const id of opened) document.getElementById(id)?.querySelector("details")?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.querySelector("summary")?.focus();
    place.dataset.loaded = "yes";
  } catch (error) {
    if (waiting) waiting.textContent = `This part could not be loaded (${error.message}). Load the page again; the rest of it is complete.`;
  }
}

async function send(form) {
  const name = form.dataset.fragment;
  const place = document.querySelector(`[data-place="${name}"]`);
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fragment(form.getAttribute("action"), { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok && answer.status !== 400) throw new Error(String(answer.status));
    place.innerHTML = await answer.text();
    place.dataset.answered = String(Number(place.dataset.answered || 0) + 1);
    if (name === "feedback" && answer.ok) form.remove();
  } catch (error) {
    const failed = document.createElement("p");
    failed.className = "bad";
    failed.setAttribute("role", "alert");
    failed.textContent = `Could not send (${error.message}). Your input is kept: try again.`;
    place.prepend(failed);
  } finally {
    button.disabled = false;
  }
}

function light(graph, id) {
  const near = new Set(id ? [id] : []);
  for (const edge of graph.querySelectorAll(".edge")) {
    const on = Boolean(id) && (edge.dataset.from === id || edge.dataset.to === id);
    edge.classList.toggle("lit", on);
    if (on) near.add(edge.dataset.from).add(edge.dataset.to);
  }
  graph.classList.toggle("choosing", Boolean(id));
  for (const node of graph.querySelectorAll(".node")) node.classList.toggle("lit", near.has(node.dataset.node));
}

function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  const inside = target.tagName === "LI" && target.querySelector(":scope > details");
  if (inside) inside.open = true;
  target.scrollIntoView({ block: "nearest" });
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.fragment) return;
  event.preventDefault();
  send(event.target);
});
window.addEventListener("hashchange", openTarget);
// After the first paint, one at a time, so that the first part shown is not slowed down.
async function loadAll() {
  for (const place of document.querySelectorAll("[data-load]")) await load(place);
}
if (document.hidden) loadAll();
else requestAnimationFrame(() => setTimeout(loadAll, 0));
for (const graph of document.querySelectorAll(".graph")) {
  for (const node of graph.querySelectorAll(".node")) {
    for (const start of ["mouseenter", "focus"]) node.addEventListener(start, () => light(graph, node.dataset.node));
    for (const end of ["mouseleave", "blur"]) node.addEventListener(end, () => light(graph, null));
  }
}
openTarget();
