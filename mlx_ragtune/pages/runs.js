"use strict";
const all = selector => [...document.querySelectorAll(selector)];
const marks = all("[data-run]");
const rows = all("tbody tr[data-run]");
let pinned = null;

function mark(run) {
  document.body.classList.toggle("marking", run !== null);
  for (const part of marks) part.classList.toggle("on", part.dataset.run === run);
}

function pin(run) {
  pinned = pinned === run ? null : run;
  for (const button of all("button.pin")) {
    button.setAttribute("aria-pressed", String(button.closest("tr").dataset.run === pinned));
  }
  mark(pinned);
}

function runOf(event) {
  const part = event.target.closest ? event.target.closest("[data-run]") : null;
  return part ? part.dataset.run : pinned;
}

document.addEventListener("pointerover", event => mark(runOf(event)));
document.addEventListener("focusin", event => mark(runOf(event)));
document.addEventListener("click", event => {
  const part = event.target.closest("button.pin, svg [data-run]");
  if (part) pin((part.closest("[data-run]") || part).dataset.run);
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") { pinned = null; pin(null); }
});

const filter = document.getElementById("filter");
function apply() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = new Set();
  for (const row of rows) {
    if (words.every(word => row.dataset.search.includes(word))) shown.add(row.dataset.run);
  }
  for (const part of marks) part.classList.toggle("off", !shown.has(part.dataset.run));
  document.getElementById("shown").textContent = `${shown.size} of ${rows.length} runs are shown`;
}
if (filter) {
  filter.addEventListener("input", apply);
  document.getElementById("controls").hidden = false;
  apply();
}

const choice = document.getElementById("objective");
function choose() {
  for (const part of all("[data-objective]")) part.hidden = part.dataset.objective !== choice.value;
}
if (choice) {
  choice.addEventListener("change", choose);
  document.getElementById("choice").hidden = false;
  choose();
}

function valueOf(row, column) {
  const text = row.cells[column].dataset.value || "";
  const number = Number(text);
  return text === "" || Number.isNaN(number) ? text : number;
}

function compare(left, right) {
  if (left === "" || right === "") return (left === "") - (right === "");
  if (typeof left === "number" && typeof right === "number") return left - right;
  return String(left).localeCompare(String(right));
}

for (const head of all("th[data-column]")) {
  const button = head.querySelector("button");
  button.disabled = false;
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of all("th[data-column]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const column = Number(head.dataset.column);
    const ordered = [...rows].sort((left, right) => {
      const [a, b] = [valueOf(left, column), valueOf(right, column)];
      return a === "" || b === "" ? compare(a, b) : (down ? -1 : 1) * compare(a, b);
    });
    for (const row of ordered) row.parentNode.append(row);
  });
}
