// The page is whole without this: sorting, hovering and the choice of light or dark need it.
"use strict";

for (const table of document.querySelectorAll("table:has(button.sort)")) {
  const bodies = [...table.tBodies];
  // the order of the paper, to which a third press returns
  const order = bodies.map((body) => [...body.rows]);
  for (const button of table.querySelectorAll("button.sort")) {
    button.addEventListener("click", () => sort(table, bodies, order, button.closest("th")));
  }
}

function sort(table, bodies, order, head) {
  const next = { none: "descending", descending: "ascending", ascending: "none" };
  const now = next[head.getAttribute("aria-sort") ?? "none"];
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  if (now !== "none") head.setAttribute("aria-sort", now);
  const heads = [...table.tHead.querySelectorAll("th:has(button.sort)")];
  const place = heads.indexOf(head);
  bodies.forEach((body, index) => {
    const rows = order[index].filter((row) => !row.classList.contains("section"));
    if (now !== "none") rows.sort((a, b) => compare(value(a, place), value(b, place), now));
    body.append(...rows);
  });
}

function value(row, place) {
  return row.cells[place]?.dataset.v ?? "";
}

// numbers by size, words as people sort them; what is missing stays last
function compare(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const both = a - b;
  const found = Number.isNaN(both) ? a.localeCompare(b, "en", { numeric: true }) : both;
  return direction === "ascending" ? found : -found;
}

// a mouse sees the seeds without a press; one keeps them open
if (HTMLElement.prototype.showPopover) {
  for (const button of document.querySelectorAll("button[popovertarget]")) {
    const card = document.getElementById(button.getAttribute("popovertarget"));
    let hovered = false;
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "mouse" || card.matches(":popover-open")) return;
      card.showPopover({ source: button });
      hovered = true;
    });
    button.addEventListener("pointerleave", () => {
      if (hovered) card.hidePopover();
      hovered = false;
    });
    button.addEventListener("click", (event) => {
      if (hovered) event.preventDefault();
      hovered = false;
    });
  }
}

const root = document.documentElement;
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

function show(scheme) {
  root.style.colorScheme = scheme ?? "";
  const isDark = scheme ? scheme === "dark" : dark.matches;
  theme.textContent = isDark ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Show the page in ${isDark ? "light" : "dark"} colours`);
  return isDark;
}

let isDark = show();
theme.hidden = false;
theme.addEventListener("click", () => (isDark = show(isDark ? "light" : "dark")));
dark.addEventListener("change", () => (isDark = show()));
