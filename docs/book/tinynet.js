// What the theme leaves out for the keyboard and for screen readers.
"use strict";

// A box whose text is wider than itself becomes a stop of the Tab key: then the arrow keys scroll it.
function reachWideBoxes() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .math-wrapper")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", reachWideBoxes);
addEventListener("resize", reachWideBoxes);
addEventListener("toggle", reachWideBoxes, true);  // a drop-down opens

addEventListener("DOMContentLoaded", () => {
  const name = (selector, label) => { for (const e of document.querySelectorAll(selector)) e.ariaLabel = label; };
  name(".sidebar-drawer", "all pages");
  name(".toc-drawer", "this page");
  for (const caption of document.querySelectorAll("[role=heading]:not([aria-level])")) caption.ariaLevel = 2;
});
