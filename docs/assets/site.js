// What the theme makes or adds while it loads: tables that scroll are reached by the keyboard, and only the whole
// navigation and the whole table of contents are landmarks, not their parts and not the bar of each block of code.
function mend() {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
  for (const part of document.querySelectorAll(".md-nav .md-nav, .md-code__nav")) {
    part.setAttribute("role", "none");
    for (const name of ["aria-label", "aria-labelledby", "aria-expanded"]) part.removeAttribute(name);
  }
}

new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
mend();
