// The tab Presets: what a preset is and would change, loading and undoing, saving, files that come in and go out.
window.atelierPresets = (() => {
  const { el, say } = window.atelier;
  const form = window.atelierForm;
  const byId = (id) => document.getElementById(id);
  const MOST_BYTES = 6e6;
  const state = { chosen: null, keepFor: "", left: "", right: "", seen: "" };

  let number = 0;
  const content = () => JSON.stringify([window.atelierFields.values("form"), form.state.preset]);
  async function look(keep = null) {
    await form.arrived;
    state.seen = content();
    const asked = { chosen: state.chosen ?? form.state.preset, keep, keep_for: state.keepFor, left: state.left, right: state.right };
    const mine = ++number;
    const found = await form.ask("presets", asked);
    if (mine !== number) return; // an answer to an older question
    if (found.error) return tell(el("p", { class: "fault", text: found.error }).outerHTML);
    Object.assign(state, { chosen: found.chosen, keepFor: found.chosen, left: found.left, right: found.right });
    showChoice("preset-choice", found.items, found.chosen);
    showChoice("compare-left", found.with_form, found.left);
    showChoice("compare-right", found.with_form, found.right);
    byId("preset-keep").checked = found.keep;
    byId("preset-delete").disabled = !found.deletes;
    byId("preset-undo").disabled = !found.undoes;
    for (const [name, id] of [["about", "preset-about"], ["changes", "preset-changes"], ["differences", "differences"]]) {
      if (byId(id).innerHTML !== found[name]) byId(id).innerHTML = found[name];
    }
  }
  function showChoice(id, items, chosen) {
    const choice = byId(id);
    const now = JSON.stringify(items);
    if (choice.dataset.items !== now) choice.replaceChildren(...items.map(([title, path]) => new Option(title, path)));
    choice.dataset.items = now;
    choice.value = chosen;
  }
  const keep = () => byId("preset-keep").checked;

  function tell(message, receipt) {
    byId("preset-message").innerHTML = message || "";
    if (receipt !== undefined) byId("preset-receipt").innerHTML = receipt;
  }
  async function press(what, more = {}) {
    const answer = await form.act(what, { chosen: state.chosen, keep: keep(), keep_for: state.keepFor, name: byId("preset-name").value, ...more });
    tell(answer.message, answer.receipt);
    if (answer.name !== undefined) byId("preset-name").value = answer.name;
    if (answer.chosen !== undefined) state.chosen = answer.chosen;
    await look(what === "load" || what === "undo" ? keep() : null);
    return answer;
  }
  const pressed = {
    "preset-load": () => press("load"),
    "preset-undo": () => press("undo"),
    "preset-delete": () => press("delete"),
    "preset-save-as": () => press("save", { over: false }),
    "preset-save": () => press("save", { over: true }),
    "preset-export": async () => download(await press("export")),
  };

  // Hands the browser a file that was made of the form; nothing is written on the server.
  function download({ file, text }) {
    if (!file) return;
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  async function bring(file) {
    if (file.size > MOST_BYTES) return tell(el("p", { class: "fault", text: say("This file is far too large for a preset. Choose another one.") }).outerHTML);
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    await press("import", { name: file.name, data: btoa(text) });
  }

  function chose({ target }) {
    if (target.id === "preset-choice") state.chosen = target.value;
    else if (target.id === "compare-left") state.left = target.value;
    else if (target.id === "compare-right") state.right = target.value;
    else if (target.id === "preset-import") {
      if (target.files[0]) bring(target.files[0]);
      target.value = "";
      return;
    } else if (target.id !== "preset-keep") return;
    look(target.id === "preset-choice" ? null : keep());
  }
  // A click on the tab asks only when something changed since.
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.("#tab-presets-button") && byId("preset-choice") && content() !== state.seen) look(state.keepFor ? keep() : null);
  });
  // A recipe that was loaded elsewhere is the chosen one here.
  document.addEventListener("atelier-recipe", () => { state.chosen = form.state.preset; });

  function start(element) {
    form.drawn(element);
    element.addEventListener("click", ({ target }) => pressed[target.closest("button")?.id]?.());
    element.addEventListener("change", chose);
    if (element.offsetParent) look();
  }
  return { start };
})();
