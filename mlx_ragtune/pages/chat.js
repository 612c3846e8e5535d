"use strict";
const byId = (id) => document.getElementById(id);
const THUMB = "M7 11v9H4v-9zM7 11l4-8c1.4 0 2.4 1 2.4 2.4L13 9h5.6c1.2 0 2.1 1.1 1.9 2.3l-1.2 6.5c-.2 1.3-1.3 2.2-2.6 2.2H7";
const entries = [];
let server = null, arm = "", together = false, running = null;

const make = (tag, about = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const say = (text) => { byId("message").textContent = text; };
const flat = (text) => text.normalize("NFC").toLowerCase().replace(/\s+/g, " ").trim();

async function ask(path, body, headers = {}) {
  const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const reply = await fetch(path, { ...sent, headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers } });
  const value = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(value.error?.message ?? `the server answered ${reply.status}`), { status: reply.status });
  return value;
}

async function signIn(token) {
  await ask("/api/session", {}, { Authorization: `Bearer ${token}` });
}

async function start() {
  const given = /^#token=(.+)$/.exec(location.hash);
  if (given) {
    history.replaceState(null, "", location.pathname);
    try { await signIn(decodeURIComponent(given[1])); } catch { /* the form asks again */ }
  }
  try { server = await ask("/api/state"); } catch (error) {
    if (error.status !== 401) { byId("invitation").textContent = error.message; return; }
    byId("sign-in").hidden = false;
    byId("log").hidden = true;
    byId("token").focus();
    return;
  }
  byId("sign-in").hidden = true;
  for (const name of ["log", "controls", "composer"]) byId(name).hidden = false;
  byId("name").textContent = server.name;
  document.title = `Ask the papers: ${server.name}`;
  byId("strength-row").hidden = !server.strengths;
  showModels();
  showPapers();
  byId("question").focus();
}

function showModels() {
  arm = server.models[server.models.length - 1].id;
  byId("models").replaceChildren(...server.models.map((model, at) => make("button", {
    type: "button", text: model.id, title: `${model.what} (key: ${at + 1})`, "data-arm": model.id, onclick: () => choose(model.id),
  })));
  choose(arm);
}

function choose(name) {
  arm = name;
  setTogether(false);
}

function setTogether(on) {
  together = on;
  byId("together").setAttribute("aria-pressed", String(on));
  for (const button of byId("models").children) button.setAttribute("aria-pressed", String(on || button.dataset.arm === arm));
}

function showPapers() {
  const count = server.papers.length;
  byId("invitation").textContent = count === 1 ? "Ask a question about one paper." : `Ask a question about these ${count} papers.`;
  const list = byId("papers");
  list.hidden = false;
  list.querySelector("summary").textContent = "Which papers?";
  list.querySelector("ul").replaceChildren(...server.papers.map((paper) => make("li", {},
    paper.url ? make("a", { href: paper.url, target: "_blank", rel: "noopener", text: paper.title }) : paper.title)));
}

function addEntry(question, arms) {
  const entry = { question, sources: null, cards: [] };
  const answers = make("div", { class: "answers" });
  entry.list = make("section", { class: "sources", "aria-label": "Passages" });
  entry.node = make("article", { class: "entry" }, make("h2", { class: "asked", text: question }), answers, entry.list);
  for (const name of arms) {
    const card = { arm: name, entry, text: "", thinking: "", id: null };
    card.state = make("span", { class: "state", text: "searching the papers" });
    card.answer = make("div", { class: "answer working" });
    card.foot = make("div", { class: "foot" });
    card.node = make("section", { class: "card", "aria-label": `Answer: ${name}`, "data-arm": name },
      make("div", { class: "head" }, make("span", { class: "arm", text: label(name) }), card.state), card.answer, card.foot);
    answers.append(card.node);
    entry.cards.push(card);
  }
  byId("empty").hidden = true;
  byId("clear").hidden = false;
  byId("log").append(entry.node);
  entries.push(entry);
  return entry;
}

function label(name) {
  const strength = Number(byId("strength").value);
  return name === "tuned" && server.strengths && strength !== 1 ? `tuned, strength ${strength}` : name;
}

function showSources(entry, sources) {
  if (entry.sources !== null) return;
  entry.sources = sources;
  const matched = sources.some((source) => source.found_by.length);
  entry.list.append(make("h3", { text: matched ? "Passages that the model was shown" : "No passage matches the question; the model was shown the first ones" }));
  entry.list.append(make("ol", {}, ...sources.map((source) => sourceItem(source))));
}

function placeOf(source) {
  const pages = source.page === null ? "" : source.last_page > source.page ? `pages ${source.page}–${source.last_page}` : `page ${source.page}`;
  return [source.section, pages].filter(Boolean).join(", ");
}

function sourceItem(source) {
  const row = make("div", { class: "source" }, make("span", { class: "number", text: `[${source.number}]` }), make("span", { class: "title", text: source.title }));
  if (source.url) {
    const text = source.page === null ? "Open the PDF" : `Open page ${source.page}`;
    row.append(make("a", { href: source.url, target: "_blank", rel: "noopener", text, "aria-label": `${text} of ${source.title}` }));
  }
  const place = make("span", { class: "place", text: placeOf(source) });
  if (!source.found_by.length) place.append(make("span", { class: "unmatched", text: " · does not match the question" }));
  row.append(place, make("details", {}, make("summary", {}, make("span", { class: "excerpt", text: source.text.slice(0, 200) }),
    make("span", { class: "whole", text: "Passage" })), make("p", { text: source.text })));
  return make("li", { "data-number": source.number }, row);
}

function showAnswer(card) {
  card.answer.replaceChildren();
  const titles = new Map((card.entry.sources ?? []).toReversed().map((source) => [flat(source.title), source]));
  let from = 0;
  for (const match of card.text.matchAll(/["“„]([^"“”„]{3,400})["”“]/g)) {
    const source = titles.get(flat(match[1].replace(/[.,;:]$/, "")));
    if (!source) continue;
    card.answer.append(card.text.slice(from, match.index), make("a", {
      href: "#", class: "cite", "aria-label": `${match[1]}, passage ${source.number}`,
      onclick: (event) => { event.preventDefault(); mark(card.entry, source.title); },
    }, match[0], make("sup", { text: String(source.number) })));
    from = match.index + match[0].length;
  }
  card.answer.append(card.text.slice(from));
}

function mark(entry, title) {
  let first = null;
  for (const item of entry.list.querySelectorAll("li")) {
    const own = flat(item.querySelector(".title").textContent) === flat(title);
    item.classList.toggle("marked", own);
    if (own && first === null) first = item;
  }
  if (first === null) return;
  first.querySelector("details").open = true;
  first.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

function thumb(card, vote, name) {
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  path.setAttribute("d", THUMB);
  icon.append(path);
  const button = make("button", { type: "button", class: vote, "aria-pressed": "false", "aria-label": name, title: name }, icon);
  button.addEventListener("click", async () => {
    const taken = button.getAttribute("aria-pressed") === "true";
    try {
      await ask("/api/vote", { id: card.id, vote: taken ? "none" : vote });
      for (const other of card.foot.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(!taken));
      say("");
    } catch (error) { say(`The vote was not saved: ${error.message}`); }
  });
  return button;
}

function finish(card, ended, usage, reason) {
  card.answer.classList.remove("working");
  showAnswer(card);
  if (!card.text && !card.thinking) card.answer.append(make("span", { class: "dim", text: "(no answer)" }));
  const parts = [usage ? `${usage.completion_tokens} tokens` : "", ended ? `${ended.seconds.toFixed(1)} s` : ""];
  if (reason === "length") parts.unshift("cut off at the token limit");
  if (ended?.reason === "loop") parts.unshift("ended: it repeated itself");
  card.state.textContent = parts.filter(Boolean).join(" · ");
  const copy = make("button", { type: "button", text: "Copy", onclick: () => navigator.clipboard?.writeText(card.text).then(() => { copy.textContent = "Copied"; }) });
  card.foot.append(thumb(card, "up", "Good answer"), thumb(card, "down", "Bad answer"), make("span", { class: "space" }), copy);
}

function fail(card, message) {
  card.answer.classList.remove("working");
  showAnswer(card);
  card.state.textContent = message;
  card.state.classList.add("bad");
}

function earlier(card) {
  if (!server.turns) return [];
  const said = entries.filter((entry) => entry !== card.entry)
    .map((entry) => [entry.question, entry.cards.find((own) => own.arm === card.arm && own.id && own.text)])
    .filter(([, own]) => own).slice(-server.turns);
  return said.flatMap(([question, own]) => [{ role: "user", content: question }, { role: "assistant", content: own.text }]);
}

async function answer(card, signal) {
  const body = {
    model: card.arm, stream: true, stream_options: { include_usage: true }, append_sources: false,
    messages: [...earlier(card), { role: "user", content: card.entry.question }],
  };
  if (server.strengths && card.arm === "tuned") body.strength = Number(byId("strength").value);
  const reply = await fetch("/v1/chat/completions", { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!reply.ok) {
    const value = await reply.json().catch(() => ({}));
    throw new Error(value.error?.message ?? `the server answered ${reply.status}`);
  }
  let usage = null, ended = null, reason = null, whole = false;
  for await (const event of events(reply.body)) {
    if (event === "[DONE]") { whole = true; continue; }
    const chunk = JSON.parse(event);
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.sources) { card.id = chunk.id; showSources(card.entry, chunk.sources); card.state.textContent = "reading the passages"; }
    usage = chunk.usage ?? usage;
    ended = chunk.ended ?? ended;
    const choice = chunk.choices[0];
    reason = choice?.finish_reason ?? reason;
    if (choice?.delta?.reasoning_content) think(card, choice.delta.reasoning_content);
    if (choice?.delta?.content) write(card, choice.delta.content);
  }
  if (!whole) throw new Error("the connection broke");
  finish(card, ended, usage, reason);
}

function write(card, text) {
  const low = atEnd();
  if (!card.text) card.state.textContent = "writing";
  card.text += text;
  card.answer.append(text);
  if (low) window.scrollTo(0, document.body.scrollHeight);
}

function think(card, text) {
  if (!card.thinking) {
    card.thought = make("p");
    card.answer.before(make("details", { class: "thinking" }, make("summary", { text: "Thinking" }), card.thought));
    card.state.textContent = "thinking";
  }
  card.thinking += text;
  card.thought.append(text);
}

const atEnd = () => window.innerHeight + window.scrollY > document.body.scrollHeight - 120;

async function* events(body) {
  const reader = body.getReader(), decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
    }
  } finally { reader.cancel().catch(() => {}); }
}

async function submit() {
  const field = byId("question"), question = field.value.trim();
  if (!question || running || !server) return;
  field.value = "";
  grow();
  say("");
  running = new AbortController();
  const { signal } = running;
  setRunning(true);
  const entry = addEntry(question, together ? server.models.map((model) => model.id) : [arm]);
  entry.node.scrollIntoView({ block: "start" });
  await Promise.all(entry.cards.map((card) => answer(card, signal).catch((error) => fail(card, signal.aborted ? "stopped" : error.message))));
  running = null;
  setRunning(false);
}

function setRunning(on) {
  byId("send").hidden = on;
  byId("stop").hidden = !on;
  if (!on && document.activeElement === document.body) byId("question").focus({ preventScroll: true });
}

function grow() {
  const field = byId("question");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

function stop() { running?.abort(); }

byId("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try { await signIn(byId("token").value); await start(); } catch (error) {
    byId("sign-in").querySelector("label").textContent = error.status === 401 ? "That is not the API key of this server." : error.message;
  }
});
byId("question").addEventListener("input", grow);
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
});
byId("stop").addEventListener("click", stop);
byId("together").addEventListener("click", () => setTogether(!together));
byId("strength").addEventListener("input", () => { byId("strength-shown").textContent = byId("strength").value; });
byId("clear").addEventListener("click", () => {
  stop();
  entries.splice(0).forEach((entry) => entry.node.remove());
  byId("empty").hidden = false;
  byId("clear").hidden = true;
  byId("question").focus();
});
byId("keys").addEventListener("click", () => byId("help").showModal());
byId("close-help").addEventListener("click", () => byId("help").close());
document.addEventListener("keydown", (event) => {
  if (byId("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "Escape") { if (running) stop(); else if (typing) document.activeElement.blur(); return; }
  if (typing || !server) return;
  const model = server.models[Number(event.key) - 1];
  if (event.key === "/") { event.preventDefault(); byId("question").focus(); }
  else if (event.key === "?") byId("help").showModal();
  else if (event.key === "s") setTogether(!together);
  else if (model) choose(model.id);
});
start();
