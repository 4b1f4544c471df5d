// What the theme leaves undone for readers without a mouse or without a screen.
function mend() {
  // Arrows that unfold a part of the contents have no name.
  for (const summary of document.querySelectorAll(".bd-sidebar-primary summary")) {
    const chapter = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages under ${chapter ? chapter.textContent.trim() : "this one"}`);
  }
  // A list has items.
  for (const entry of document.querySelectorAll(".citation-list > .citation")) entry.setAttribute("role", "listitem");
  // What scrolls by itself must be reachable with the keyboard.
  const parts = "table, pre, figure, .math, .cell_output, .output, .pst-scrollable-table-container";
  for (const part of document.querySelectorAll(`.bd-article :is(${parts})`)) {
    const scrolls = part.scrollWidth > part.clientWidth && /auto|scroll/.test(getComputedStyle(part).overflowX);
    if (scrolls) part.tabIndex = 0;
    const fade = () => part.classList.toggle("goes-on", part.scrollLeft + part.clientWidth < part.scrollWidth - 6);
    if (scrolls) part.onscroll = fade;
    if (scrolls || part.classList.contains("goes-on")) fade();
  }
  // Code prints a hyphen before negative numbers; the text around them has a minus sign.
  for (const number of document.querySelectorAll(".bd-article :is(.pasted-text, .cell_output td)")) {
    for (const text of [number, ...number.querySelectorAll("*")].flatMap((part) => [...part.childNodes])) {
      if (text.nodeType === Node.TEXT_NODE) text.data = text.data.replace(/(?<![\w.])-(?=\d)/g, "−");
    }
  }
}

// Code that is folded, for readers who want all of it: one switch on each page, which remembers what was chosen.
function offerCode() {
  const folded = [...document.querySelectorAll(".bd-article details.hide.above-input")];
  const facts = document.querySelector(".bd-article .page-facts");
  if (!folded.length || !facts) return;
  const button = facts.appendChild(document.createElement("button"));
  button.type = "button";
  button.className = "all-code";
  let all = localStorage.getItem("all-code") === "true";
  const show = () => {
    for (const part of folded) part.open = all;
    button.textContent = all ? "Fold the code" : "Show all code";
  };
  button.addEventListener("click", () => {
    all = !all;
    localStorage.setItem("all-code", all);
    show();
  });
  show();
}

document.addEventListener("DOMContentLoaded", mend);
document.addEventListener("DOMContentLoaded", offerCode);
window.addEventListener("load", mend); // formulas are set by then
window.addEventListener("resize", mend);
