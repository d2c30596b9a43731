// Fields of tools: after each pause in what is entered, the panel's own hidden button tells Gradio that they were changed.
(() => {
  const PAUSE_MS = 250;
  const pauses = {};
  document.addEventListener("input", ({ target }) => {
    const panel = target.closest?.(".tool-fields")?.closest(".tool-panel");
    if (!panel) return;
    const key = panel.id.replace("-panel", "");
    clearTimeout(pauses[key]);
    pauses[key] = setTimeout(() => document.querySelector(`button#${key}-edited, #${key}-edited button`)?.click(), PAUSE_MS);
  });
})();
