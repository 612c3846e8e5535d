"use strict";
// All text is set as text, never as HTML: papers and models may hold anything.
const at = id => document.getElementById(id);
let state = null, shown = null, place = -1, panel = "", busy = false;

const el = (name, options = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "click") made.addEventListener("click", value);
    else if (key === "class") made.className = value;
    else if (key in made && typeof value === "boolean") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined && child !== ""));
  return made;
};
const key = text => el("kbd", {}, text);
const say = (text, bad = false) => { at("message").textContent = text; at("message").className = bad ? "bad" : ""; };

const ask = async (path, body) => {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try { reply = await fetch(path, options); }
  catch { throw new Error("The command has ended. Start it again in the terminal: nothing that was saved is lost."); }
  const value = await reply.json().catch(() => ({ error: `request failed (${reply.status})` }));
  if (!reply.ok) throw new Error(value.error);
  return value;
};
const guarded = work => async (...parameters) => {
  if (busy) return;
  busy = true;
  try { await work(...parameters); } catch (error) { say(error.message, true); } finally { busy = false; }
};

const undecided = from => {
  const order = state.items.map((_, n) => n);
  const turned = [...order.slice(from), ...order.slice(0, from)];
  return turned.find(n => !state.items[n].decision) ?? turned.find(n => state.items[n].decision === "skip" && n !== shown?.n);
};
const plural = (count, part) => `${count} ${state.nouns[part][count === 1 ? 0 : 1]}`;

function header() {
  const current = shown ? state.items[shown.n].part : "";
  at("title").textContent = `Review of ${state.name}`;
  at("parts").replaceChildren(...state.parts.map(part => {
    const first = state.items.findIndex(item => item.part === part.part);
    const next = state.items.findIndex(item => item.part === part.part && !item.decision);
    const name = state.nouns[part.part][1];
    return el("button", { class: "quiet", "aria-current": String(part.part === current), disabled: first < 0,
      click: () => open(next < 0 ? first : next) }, `${name[0].toUpperCase()}${name.slice(1)}: ${part.done} of ${part.sampled}`);
  }), el("button", { class: "quiet", id: "overview", "aria-current": String(!shown), click: () => overview() }, "Overview ", key("o")),
  el("button", { class: "quiet", id: "show-help", click: () => at("help").showModal() }, "Keys ", key("?")));
  const done = state.parts.reduce((sum, part) => sum + part.done, 0);
  const all = state.parts.reduce((sum, part) => sum + part.sampled, 0);
  at("filled").style.width = `${all ? 100 * done / all : 0}%`;
  at("bar").setAttribute("aria-valuemax", all);
  at("bar").setAttribute("aria-valuenow", done);
}

const DECIDED = { accept: "accepted", reject: "rejected", edit: "edited", skip: "skipped" };
const tag = (text, tone = "plain") => el("span", { class: `tag ${tone}` }, text);

function position(n) {
  const part = state.items[n].part;
  const own = state.items.map((item, index) => [item, index]).filter(([item]) => item.part === part);
  return `${own.findIndex(([, index]) => index === n) + 1} of ${own.length}`;
}

function about(item) {
  const decision = item.decision
    ? tag(DECIDED[item.decision] + (item.reason ? `: ${state.reasons[item.reason] ?? item.reason}` : ""), item.decision) : null;
  return el("p", { class: "about" },
    el("strong", { id: "position" }, `${state.nouns[item.part][0]} ${position(item.n)}`),
    tag(state.kinds[item.kind] ?? item.kind), item.task && item.task !== item.kind ? tag(item.task.replaceAll("_", " ")) : null,
    item.origin ? tag(item.origin) : null, el("span", { class: "dim" }, item.id), decision);
}

function nuggets(item) {
  if (!item.nuggets.length) return [];
  return [el("p", { class: "label" }, "Facts that a right answer states, and the words that show them"),
    el("ul", { class: "facts" }, ...item.nuggets.map(nugget => el("li", {}, nugget.text, nugget.vital ? "" : " (optional)", el("br"),
      ...nugget.anchors.map(group => el("span", { class: "anchor" }, group.join(" | "))))))];
}

function problems(found) {
  return found.length ? el("div", { class: `found ${found.some(one => one.blocks) ? "worse" : "warn"}` },
    ...found.map(one => el("p", {}, one.text))) : null;
}

function left(item) {
  const stale = item.changed_since
    ? el("div", { class: "found warn" }, `It has changed since it was ${DECIDED[item.earlier]} on ${item.changed_since.slice(0, 10)}: please review it again.`) : null;
  const kept = item.original ? el("details", {}, el("summary", {}, "Before the edit"),
    el("p", { class: "asked" }, item.original.question), el("p", { class: "answer" }, item.original.answer)) : null;
  return el("section", { class: "card" }, about(item), stale,
    el("p", { class: "asked", id: "question", dir: "auto" }, item.question),
    el("p", { class: "label" }, item.part !== "benchmark" ? "Answer" : "Reference answer"),
    el("p", { class: "answer", id: "answer", dir: "auto" }, item.answer || "(none)"),
    item.note ? el("p", { class: "dim" }, `Note: ${item.note}`) : null, kept,
    item.repairs.length ? el("p", { class: "dim" }, `Changed by rule before it was kept: ${item.repairs.join("; ")}`) : null,
    ...nuggets(item),
    item.papers.length ? el("p", { class: "label" }, item.papers.length > 1 ? "Papers" : "Paper") : null,
    item.papers.length ? el("ul", { class: "titles" }, ...item.papers.map(title => el("li", { dir: "auto" }, title))) : null,
    problems(item.problems));
}

function passage(one, number) {
  const where = [one.section, one.page ? `page ${one.page}` : ""].filter(Boolean).join(" · ");
  const show = one.pdf ? el("button", { class: "quiet", id: `sheet-${number}`, "aria-pressed": String(place === number),
    click: () => sheet(number) }, place === number ? "Hide the page" : "Show the page", " ", number === Math.max(place, 0) ? key("p") : "") : null;
  const text = one.problem
    ? [el("div", { class: "found worse" }, el("p", {}, one.problem)), el("p", { class: "passage" }, el("mark", {}, one.quote))]
    : [el("p", { class: "passage", tabindex: "0", dir: "auto" }, one.before, one.quote ? el("mark", {}, one.quote) : "", one.after)];
  return el("section", { class: "card place" },
    one.recorded ? null : el("p", { class: "dim" }, "No quote is recorded. The closest passage by its words:"),
    el("h3", { dir: "auto" }, one.title), el("div", { class: "where" }, el("span", { class: "dim" }, where), show), ...text,
    el("div", { class: "sheet", id: `sheet-of-${number}` }));
}

function draw() {
  const item = shown;
  const right = item.places.length ? item.places.map(passage)
    : [el("section", { class: "card" }, el("p", { class: "dim" }, "No passage of the papers shares a word with it."))];
  at("main").replaceChildren(el("div", { class: "columns" },
    el("div", { class: "own" }, el("div", { id: "panel" }), left(item)), el("div", {}, ...right)));
  for (const marked of document.querySelectorAll(".passage mark")) {
    const box = marked.parentElement;
    box.scrollTop = Math.max(0, marked.offsetTop - box.offsetTop - 60);
  }
  actions();
  header();
}

function actions() {
  const button = (id, text, letter, tone, click) => el("button", { id, class: tone, click }, text, " ", key(letter));
  at("actions").hidden = !shown || panel;
  if (!shown) return;
  at("actions").replaceChildren(el("div", { class: "row" },
    button("accept", "Accept", "a", "accept", () => decide({ action: "accept" })),
    button("reject", "Reject", "r", "reject", reject), button("edit", "Edit", "e", "edit", edit),
    button("skip", "Skip", "s", "", () => decide({ action: "skip" })), el("span", { class: "gap" }),
    button("previous", "Previous", "k", "", () => step(-1)), button("next", "Next", "j", "", () => step(1)),
    el("button", { id: "undo", disabled: !state.can_undo, click: undo }, "Undo ", key("u"))));
}

const open = guarded(async (n, keep = false) => { await load(n, keep); });
async function load(n, keep = false) {
  shown = await ask(`item?n=${n}`);
  place = -1; panel = "";
  if (!keep) say("");
  history.replaceState(null, "", `#${n + 1}`);
  draw();
  window.scrollTo(0, 0);
  at("main").focus({ preventScroll: true });
}
const step = by => {
  const n = shown.n + by;
  if (n >= 0 && n < state.items.length) open(n);
  else if (by > 0) overview();
};

const decide = guarded(async sent => {
  const part = state.items[shown.n].part;
  state = await ask("review", { n: shown.n, id: shown.id, ...sent });
  say(`Saved: ${DECIDED[sent.action]}.`);
  const next = undecided(shown.n + 1);
  const left = state.parts.find(one => one.part === part);
  if (next === undefined || (left.done === left.sampled && sent.action !== "skip")) return show(sent.action);
  await load(next, true);
});
const undo = guarded(async () => {
  if (!state.can_undo) return say("There is nothing to undo.");
  state = await ask("undo", {});
  if (state.undone === null || state.undone < 0) { say("The last decision is taken back."); return shown ? draw() : show(); }
  await load(state.undone, true);
  say("Taken back: please decide again.");
});

function openPanel(name, ...content) {
  panel = name;
  const box = el("div", { class: "panel", role: "group", "aria-label": name }, ...content);
  at("panel").replaceChildren(box);
  at("panel").parentElement.classList.toggle("editing", name === "Edit");
  at("actions").hidden = true;
  box.scrollIntoView({ block: "nearest" });
  return box;
}
const closePanel = () => {
  panel = "";
  at("panel")?.replaceChildren();
  at("panel")?.parentElement.classList.remove("editing");
  at("actions").hidden = !shown;
  at("main").focus({ preventScroll: true });
};

function reject() {
  const names = Object.entries(state.reasons).filter(([name]) => name !== "answerable" || shown.kind.includes("_"));
  const choices = names.map(([name, text], index) => el("label", {}, el("input", { type: "radio", name: "reason", value: name }), el("span", {}, text, " ", key(String(index + 1)))));
  const note = el("input", { type: "text", id: "note", maxlength: "2000", "aria-label": "Note (optional)", placeholder: "Note (optional)" });
  const send = () => {
    const reason = document.querySelector("input[name=reason]:checked")?.value;
    if (!reason) return say("Choose a reason first.", true);
    decide({ action: "reject", reason, note: note.value });
  };
  const box = openPanel("Why is it rejected?", el("h3", {}, "Why is it rejected?"), el("fieldset", { class: "choices" }, ...choices), note,
    el("div", { class: "buttons" }, el("button", { id: "confirm", click: send }, "Reject ", key("Enter")),
      el("button", { click: closePanel }, "Cancel ", key("Esc"))));
  box.addEventListener("keydown", event => { if (event.key === "Enter" && event.target.tagName !== "BUTTON") { event.preventDefault(); send(); } });
  box.querySelector("input").focus({ preventScroll: true });
}

function edit() {
  const area = (id, value, least = 1) => {
    const lines = value.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / 45), 0);
    const made = el("textarea", { id, rows: String(Math.min(12, Math.max(least, lines))), dir: "auto" });
    made.value = value;
    return made;
  };
  const asked = area("edit-question", shown.question, 2), answer = area("edit-answer", shown.answer, 4);
  const facts = [], list = el("div", {});
  const add = nugget => {
    const index = facts.length;
    const text = area(`nugget-${index}`, nugget.text);
    const anchors = area(`anchors-${index}`, nugget.anchors.map(group => group.join(" | ")).join("\n"), nugget.anchors.length);
    const vital = el("input", { type: "checkbox", checked: nugget.vital });
    const drop = el("input", { type: "checkbox", id: `drop-${index}` });
    facts.push({ text, anchors, vital, drop });
    list.append(el("div", { class: "nugget" }, el("label", { for: `nugget-${index}` }, `Fact ${index + 1}`), text,
      el("label", { for: `anchors-${index}` }, "Words that show it: one line for each, alternatives between |"), anchors,
      el("label", { class: "check" }, vital, "counts in the score"), el("label", { class: "check" }, drop, "remove this fact")));
    return text;
  };
  shown.nuggets.forEach(add);
  const more = shown.part === "benchmark" && !shown.kind.includes("_")
    ? el("button", { id: "add-fact", class: "quiet", click: () => add({ text: "", anchors: [], vital: true }).focus() }, "Add a fact") : null;
  const value = () => ({ question: asked.value, answer: answer.value, nuggets: facts.filter(fact => !fact.drop.checked).map(fact => ({
    text: fact.text.value, vital: fact.vital.checked,
    anchors: fact.anchors.value.split("\n").map(line => line.split("|").map(word => word.trim()).filter(Boolean)).filter(group => group.length) })) });
  const verdict = el("div", { id: "verdict", "aria-live": "polite" }), n = shown.n;
  const save = el("button", { id: "save", click: () => decide({ action: "edit", edit: value() }) }, "Save ", key("Ctrl Enter"));
  let timer = 0, asking = 0;
  const check = async () => {
    const number = ++asking;
    try {
      const found = (await ask("check", { n, edit: value() })).problems;
      if (number !== asking) return;
      verdict.replaceChildren(problems(found) ?? el("div", { class: "found better" }, el("p", {}, "Every check passes.")));
      save.disabled = found.some(one => one.blocks);
    } catch (error) { say(error.message, true); }
  };
  const box = openPanel("Edit", el("h3", {}, "Edit"), el("label", { class: "label", for: "edit-question" }, "Question"), asked,
    el("label", { class: "label", for: "edit-answer" }, shown.part !== "benchmark" ? "Answer" : "Reference answer"), answer,
    list, more, verdict, el("div", { class: "buttons" }, save, el("button", { click: closePanel }, "Cancel ", key("Esc"))));
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(check, 250); });
  box.addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !save.disabled) { event.preventDefault(); save.click(); } });
  asked.focus();
  check();
}

const sheet = guarded(async (number, page) => {
  if (page === undefined && place === number) { place = -1; return draw(); }
  const reply = await fetch(`page?n=${shown.n}&place=${number}${page ? `&page=${page}` : ""}`);
  if (!reply.ok) throw new Error((await reply.json()).error);
  const here = Number(reply.headers.get("X-Page")), pages = Number(reply.headers.get("X-Pages"));
  const marked = { whole: "the quote is marked", part: "a part of the quote is marked", none: "the quote was not found on this page" }[reply.headers.get("X-Marked")];
  const picture = el("img", { alt: `Page ${here} of ${shown.places[number].title}` });
  const address = URL.createObjectURL(await reply.blob());
  picture.addEventListener("click", () => picture.parentElement.classList.toggle("large"));
  const top = Number(reply.headers.get("X-Top"));
  picture.addEventListener("load", () => {
    URL.revokeObjectURL(address);
    window.scrollTo(0, picture.getBoundingClientRect().top + window.scrollY + top * picture.clientHeight - window.innerHeight / 3);
  });
  picture.src = address;
  if (place !== number) { place = number; draw(); }
  const turn = (to, text) => el("button", { class: "quiet", disabled: to < 1 || to > pages, click: () => sheet(number, to) }, text);
  at(`sheet-of-${number}`).replaceChildren(el("p", { class: "turn" }, turn(here - 1, "‹"), turn(here + 1, "›"),
    el("span", { class: "dim" }, `page ${here} of ${pages}${shown.places[number].quote ? `, ${marked}` : ""}; click it to enlarge`)), el("div", { class: "paper" }, picture));
});

const percent = share => `${(100 * share).toFixed(share > 0 && share < 0.01 ? 1 : 0)}%`;
function result(part) {
  const rows = Object.entries(part.kinds).map(([kind, rate]) => el("tr", {}, el("td", {}, state.kinds[kind] ?? kind), el("td", { class: "n" }, `${rate.defective} of ${rate.reviewed}`),
    el("td", { class: "n" }, String(rate.total)), el("td", { class: "n" }, percent(rate.share)), el("td", { class: "n" }, rate.reviewed === rate.total ? "exact" : `${percent(rate.low)} to ${percent(rate.high)}`)));
  const name = state.nouns[part.part][1];
  return el("section", { class: "result" }, el("h2", {}, name[0].toUpperCase() + name.slice(1)),
    el("div", { class: "verdict plain" }, el("p", { class: "sentence" }, part.text), el("p", {}, part.next)),
    part.changed ? el("p", {}, `${plural(part.changed, part.part)} changed since the review: please review again.`) : null,
    !part.total ? null : el("p", { class: "dim" }, `${part.accepted} accepted, ${part.rejected} rejected, ${part.edited} edited, ${part.skipped} skipped. Rejected and edited ones count as defective.`),
    rows.length ? el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "kind"), el("th", { class: "n" }, "defective"), el("th", { class: "n" }, "of all"),
      el("th", { class: "n" }, "share"), el("th", { class: "n" }, "95% interval"))), el("tbody", {}, ...rows))) : null,
    !part.total ? null : el("p", { class: "buttons" }, part.advised ? el("button", { id: `more-${part.part}`, click: () => more(part.part) },
      part.advised < part.total ? `Review ${part.advised - part.sampled} more` : `Review the other ${part.total - part.sampled}`) : null,
      el("button", { id: `apply-${part.part}`, disabled: !part.pending, click: () => apply(part.part) },
      `Apply the reviews: ${plural(part.rejected - part.removed, part.part)} left out, ${part.edited} replaced`)),
    el("p", { class: "dim", id: `applied-${part.part}` }));
}

const more = guarded(async part => {
  state = await ask("more", { part });
  const next = state.items.findIndex(item => item.part === part && !item.decision);
  if (next >= 0) await load(next, true);
  say(state.parts.find(one => one.part === part).next);
});
const apply = guarded(async part => {
  const answer = await ask("apply", { part });
  state = answer;
  show();
  const line = at(`applied-${part}`);
  line.replaceChildren(`Written: ${answer.applied}`, el("br"), "Next: ", el("code", {}, answer.then));
  line.scrollIntoView({ block: "nearest" });
});
const finish = guarded(async () => {
  await ask("finish", {});
  shown = null;
  at("actions").hidden = true;
  at("main").replaceChildren(el("p", {}, "All decisions are saved. You can close this window."));
  say("");
});

function show(action) {
  shown = null;
  history.replaceState(null, "", "#overview");
  const list = state.items.map((item, n) => el("li", {}, el("button", { click: () => open(n) }, el("span", { class: "dim" }, String(n + 1)),
    el("span", { dir: "auto" }, item.label), item.decision ? tag(DECIDED[item.decision], item.decision) : item.changed ? tag("changed", "warn") : tag("open", "same"))));
  const next = state.items.findIndex(item => !item.decision);
  at("main").replaceChildren(next < 0 ? "" : el("p", {}, el("button", { id: "continue", click: () => open(next) },
    `Continue with ${state.nouns[state.items[next].part][0]} ${position(next)} `, key("j"))), ...state.parts.map(result),
    el("p", {}, el("button", { id: "finish", click: finish }, "Finish: end the command")),
    list.length ? el("details", { open: list.length <= 60 }, el("summary", {}, `${list.length} in the sample`), el("ol", { class: "list" }, ...list)) : "");
  at("actions").hidden = true;
  header();
  window.scrollTo(0, 0);
  at("main").focus({ preventScroll: true });
  if (action) say(`Saved: ${DECIDED[action]}.`);
}
const overview = guarded(async () => { state = await ask("state"); say(""); show(); });

const KEYS = { a: "accept", r: "reject", e: "edit", s: "skip", u: "undo", j: "next", k: "previous", ArrowRight: "next", ArrowLeft: "previous" };
document.addEventListener("keydown", event => {
  if (!state || at("help").open) return;
  if (event.key === "Escape" && panel) return closePanel();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const typing = event.target.matches("textarea, input[type=text], select");
  if (typing) return;
  if (panel === "Why is it rejected?" && /^[1-8]$/.test(event.key)) {
    document.querySelectorAll("input[name=reason]")[event.key - 1]?.click();
    return event.preventDefault();
  }
  if (panel) return;
  if (event.key === "?") return at("help").showModal();
  if (event.key === "o") return overview();
  if (event.key === "u" && !shown) return undo();
  if (event.key === "j" && !shown) return at("continue")?.click();
  if (!shown) return;
  if (event.key === "p") { const number = Math.max(place, shown.places.findIndex(one => one.pdf)); if (number >= 0) sheet(number); return; }
  if (KEYS[event.key]) { event.preventDefault(); at(KEYS[event.key]).click(); }
});
at("close-help").addEventListener("click", () => at("help").close());
document.addEventListener("visibilitychange", async () => {  // another tab may have decided meanwhile
  if (document.hidden || !state || panel || busy) return;
  try { state = await ask("state"); if (shown) header(); else show(); } catch (error) { say(error.message, true); }
});

(async () => {
  try {
    state = await ask("state");
    const asked = Number(location.hash.slice(1)) - 1;
    const first = Number.isInteger(asked) && state.items[asked] ? asked : undecided(0);
    const untouched = state.items.every(item => !item.decision);
    if (first === undefined || location.hash === "#overview") show();
    else {
      await load(first, true);
      const part = state.parts.find(one => one.part === state.items[first].part);
      say(untouched ? part.next : `You continue where you stopped: ${state.items.filter(item => item.decision).length} of ${state.items.length} are decided.`);
    }
  } catch (error) { say(error.message, true); }
})();
