// The dialog for choosing a file or folder of the machine that the page runs on; one for all fields. Names come as data
// and are only ever put in as text (textContent), never as HTML. Arrow keys, Enter, Backspace (up) and Escape work.
window.atelierChooser = (() => {
  const { say, plural } = window.atelier;
  const KEPT = "atelier-chooser:";
  let server = null, key = "", dialog = null, field = null, shown = null, opener = null;

  function start(element, itsServer) {
    server = itsServer;
    key = element.querySelector("#chooser").dataset.key;
  }

  const make = (tag, options = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") made.textContent = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };
  const inputOf = (place) => place.querySelector("input[type=text], input:not([type]), textarea");
  const pathOf = (place) => place.id.replace(/^(field|step)-/, "").replace("-", ".");
  const kept = (name) => { try { return localStorage.getItem(KEPT + name) || ""; } catch { return ""; } };
  const keep = (name, value) => { try { localStorage.setItem(KEPT + name, value); } catch { /* it is only a comfort */ } };

  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.(".field .choose-path");
    if (button) open(button.closest(".field"));
  });

  async function look(path, isOpened) {
    try {
      return JSON.parse(await server.look_into(JSON.stringify({ key, path, field: pathOf(field), open: isOpened })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }

  // `place` holds the entry of a path: a field of the form, or another element of a class and id like theirs.
  async function open(place) {
    field = place;
    opener = document.activeElement;
    dialog?.remove();
    dialog = make("dialog", { id: "path-chooser", "aria-label": say("Choose a file or folder"), onkeydown: onKey, onclose: closed });
    document.body.append(dialog);
    dialog.showModal();
    const value = inputOf(field).value.trim();
    await go(value || kept(field.id) || kept("last"), false);
  }
  function closed() {
    dialog?.remove();
    dialog = null;
    (field.classList.contains("field") ? inputOf(field) : opener)?.focus();
  }

  async function go(path, isOpened = true) {
    const found = await look(path, isOpened);
    if (!dialog) return;
    if (found.error && shown) {
      const place = dialog.querySelector(".chooser-fault");
      if (place) return (place.textContent = found.error);
    }
    draw(found);
  }

  function draw(found) {
    shown = found;
    const roots = (found.roots || []).map((root) =>
      make("button", { type: "button", text: root.title, title: root.path, onclick: () => go(root.path) }));
    const parts = (found.parts || []).map((part) =>
      make("button", { type: "button", text: part.title, onclick: () => go(part.path) }));
    const takesFolders = field.classList.contains("path-folder") || /model-(base|vae)$/.test(field.id);
    const list = make("div", { class: "chooser-list", role: "listbox", "aria-label": say("What is in this folder") });
    for (const item of found.folders || []) {
      const note = item.pictures === null ? "…" : item.pictures ? plural(item.pictures, "picture") : "";
      list.append(entry("▸ " + item.name, note, () => go(item.path)));
    }
    for (const item of found.files || []) list.append(entry(item.name, item.size, () => choose(item.path)));
    if (!list.children.length && !found.error) list.append(make("p", { class: "quiet", text: say("Nothing to choose here.") }));
    if (found.more) list.append(make("p", { class: "quiet", text: say("There is more than can be listed.") }));
    const filter = make("input", { type: "search", placeholder: say("Filter"), "aria-label": say("Filter"), oninput: (event) => {
      const wanted = event.target.value.toLowerCase();
      list.querySelectorAll("button").forEach((row) => (row.hidden = !row.dataset.name.includes(wanted)));
    } });
    const buttons = [make("button", { type: "button", class: "plain-button", text: say("Cancel"), onclick: () => dialog.close() })];
    if (takesFolders && found.path) {
      const use = make("button", { type: "button", class: "use-folder", text: say("Use this folder"), onclick: () => choose(found.path) });
      buttons.unshift(use);
    }
    dialog.replaceChildren(
      make("nav", { class: "chooser-roots" }, ...roots),
      make("div", { class: "chooser-main" },
        make("div", { class: "chooser-parts" }, ...parts), filter,
        make("p", { class: "chooser-fault", role: "alert", text: found.error || "" }), list,
        make("div", { class: "chooser-buttons" }, make("code", { text: found.path || "" }), ...buttons)));
    (list.querySelector("button") || filter).focus();
  }

  function entry(name, note, onclick) {
    const row = make("button", { type: "button", role: "option", onclick }, make("span", { text: name }), make("small", { text: note }));
    row.dataset.name = name.toLowerCase();
    return row;
  }

  function choose(path) {
    keep(field.id, shown.path);
    keep("last", shown.path);
    const input = inputOf(field);
    input.value = path;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    dialog.close();
  }

  function onKey(event) {
    const rows = [...dialog.querySelectorAll(".chooser-list button:not([hidden])")];
    const at = rows.indexOf(document.activeElement);
    const isTyping = document.activeElement?.tagName === "INPUT" && document.activeElement.value;
    if (event.key === "ArrowDown" && rows.length) rows[Math.min(at + 1, rows.length - 1)].focus();
    else if (event.key === "ArrowUp" && at > 0) rows[at - 1].focus();
    else if (event.key === "Backspace" && !isTyping && shown?.parts?.length > 1) go(shown.parts.at(-2).path);
    else return;
    event.preventDefault();
  }

  return { start, open };
})();
