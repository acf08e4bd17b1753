"""What ipywidgets leaves out and no trait can set: names for sliders, peace from shortcuts, a word about the kernel.

All of it is one <style> element. Its load event comes when the panel is on the page, in JupyterLab or on a website.
"""

from __future__ import annotations

import html

# A screen reader would call the handle of a slider "2", its place in the list. It gets the name and the words of the
# list beside it. And JupyterLab would take keys that are pressed on either for its own shortcuts: in its command mode
# an arrow leaves for the next cell, "a" puts a new one in, and "dd" deletes the learner's.
_SCRIPT = """
const panel = this.closest('.quantlab-explorer');
panel.lastElementChild.setAttribute('aria-live', 'polite');
const teach = () => {
  for (const row of panel.children) {
    if (!row.matches('.widget-hbox')) continue;  // to look for handles in all the pictures takes milliseconds
    const handle = row.querySelector('.noUi-handle'), list = row.querySelector('select');
    const option = list?.options[Number(handle?.getAttribute('aria-valuenow'))];
    if (!option) continue;
    handle.setAttribute('aria-label', row.querySelector('label').textContent);
    handle.setAttribute('aria-valuetext', option.text);
    for (const control of [handle, list]) control.setAttribute('data-lm-suppress-shortcuts', 'true');
  }
};
new MutationObserver(teach).observe(panel, {subtree: true, childList: true, attributeFilter: ['aria-valuenow']});
teach();
"""

# A browser that does not know :has() would show all pictures, one below the other: it shows none, and says why.
# Without its kernel a widget shows a broken chain. Pictures that are all there go on working and need none; a panel
# that asks the kernel for some of its pictures says what to do, once.
_LOOK = """
.quantlab-explorer.jupyter-widgets-disconnected::before,
.quantlab-explorer .jupyter-widgets-disconnected::before { content: none; }
@supports not selector(:has(a)) {
  .quantlab-explorer figure { display: none; }
  .quantlab-explorer::after { content: "These sliders need a newer browser: update it and open the page again."; } }
.quantlab-explorer.quantlab-live.jupyter-widgets-disconnected::before {
  content: "The kernel that draws this is gone: run this cell again."; font: inherit; color: inherit; }
"""

MANNERS = f'<style onload="{html.escape(_SCRIPT, quote=True)}">{_LOOK}</style>'
