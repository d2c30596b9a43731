// The form: asks the page's program what its content means and puts the answers in place: marks, problems, the bar below,
// the tab Data set. Parts come as HTML that the program has made and escaped.
window.atelierForm = (() => {
  const { el, say, drawnPlace, openTab, showLevel, showMarks, tellMarks } = window.atelier;
  const fields = window.atelierFields;
  const PAUSE_MS = 250, UNKEPT = "atelier-unkept", EDITED = "atelier-edited";
  const PLACES = {
    problems: "training-problems", plan: "plan-sentence", rates: "rate-chart", forecast: "forecast", notes: "data-notes",
    folders: "data-folders", buckets: "data-buckets", gallery: "data-gallery", pages: "data-pages", layout: "layout-help",
  };
  const state = { level: "basic", preset: "", subset: "", first: 0, files: 0, seen: {}, edited: "" };
  const kept = {}; // what each part holds, for places that are drawn later
  const byId = (id) => document.getElementById(id);
  let server = null, key = "", nowArrived = null;
  const arrived = new Promise((resolve) => { nowArrived = resolve; }); // before that the fields hold nothing of the user's

  async function ask(what, more = {}) {
    if (what !== "arrive") await arrived;
    const { level, preset } = state;
    try {
      return JSON.parse(await server.form(JSON.stringify({ key, ask: what, form: fields.values("form"), level, preset, ...more })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }
  // A button was pressed: what its answer says of the form and of the page is done, and the answer handed on.
  async function act(what, more = {}) {
    const answer = await ask(what, more);
    if (answer.error) answer.message = paragraph(answer.error);
    if (answer.preset !== undefined) state.preset = answer.preset;
    if (answer.edited !== undefined) edits(answer.edited);
    if (answer.tab) openTab(answer.tab);
    if (answer.shown) fields.show("form", answer.shown);
    if (answer.shown || answer.preset !== undefined) await look();
    return answer;
  }
  // The form holds an entry of the queue ("" for none), also after the page was loaded again: its button changes that one.
  function edits(entry) {
    state.edited = entry;
    sessionStorage.setItem(EDITED, entry);
    byId("queue-add").textContent = entry ? say("Change in queue") : say("Add to queue");
  }
  const paragraph = (text) => el("p", { class: "fault", role: "alert", text }).outerHTML;

  const unseen = new Set(); // names of fields that were filled in since the last answer
  let pause = 0;
  const lookAgain = window.atelier.latest(async (isStale) => {
    const { subset, first, files, seen } = state;
    const answer = await ask("look", { subset, first, files, seen });
    if (isStale() || !answer.parts) return;
    unseen.clear();
    draw(answer.parts);
    if (!answer.parts.marks) tellMarks(); // who waits for them hears that they are the same
  });
  function look() {
    clearTimeout(pause);
    return lookAgain();
  }
  fields.hear("form", (name) => {
    unseen.add(name);
    clearTimeout(pause);
    pause = setTimeout(look, PAUSE_MS);
  });
  // Before the page goes: what was entered a moment ago, or while the program was away, is kept too.
  const unkept = () => Object.fromEntries(Object.entries(fields.values("form")).filter(([name]) => unseen.has(name)));
  async function settle() {
    if (unseen.size) await look();
    if (unseen.size) sessionStorage.setItem(UNKEPT, JSON.stringify(unkept()));
  }
  document.addEventListener("visibilitychange", () => document.hidden && settle());

  function draw(parts) {
    for (const [name, { digest, content }] of Object.entries(parts)) {
      state.seen[name] = digest;
      kept[name] = content;
      drawPart(name);
    }
    if (parts.plan) tell(""); // it was about another form
  }
  function drawPart(name) {
    if (name === "marks") return showMarks(kept.marks);
    const place = byId(PLACES[name]);
    if (!place) return;
    if (name === "pages") drawPages(kept.pages);
    else if (name === "layout") drawLayout(place, kept.layout);
    else place.innerHTML = kept[name];
  }
  function drawn(element) {
    fields.drawn(element);
    element.querySelectorAll("[data-marks]").forEach((place) => showMarks(place.dataset.marks));
    Object.keys(kept).forEach((name) => {
      if (name !== "marks" && element.querySelector(`#${PLACES[name]}`)) drawPart(name);
    });
    if (kept.marks && element.querySelector(".field")) showMarks(kept.marks);
    drawLevel();
  }

  function drawPages({ names, chosen, first: begin, where, back, forth, turns }) {
    Object.assign(state, { subset: chosen, first: begin });
    const choice = byId("data-subset");
    choice.replaceChildren(...names.map(([name, title]) => new Option(title, name, false, name === chosen)));
    choice.hidden = !names.length;
    byId("data-where").textContent = where;
    for (const [name, first] of [["back", back], ["forth", forth]]) {
      Object.assign(byId(`data-${name}`), { hidden: !turns, disabled: first === null, onclick: () => turn(first) });
    }
  }
  function turn(first) {
    state.first = first;
    look();
  }
  function drawLayout(place, { text = "", deeper = "", arrange = null }) {
    place.hidden = !text;
    const words = el("div", {});
    words.innerHTML = text;
    const use = () => {
      fields.show("form", { "data.folder": deeper });
      look();
    };
    place.replaceChildren(words, ...(deeper ? [el("button", { type: "button", class: "primary", id: "layout-deeper", text: say("Use that folder"), onclick: use })] : []),
      ...(arrange ? [el("button", { type: "button", class: "primary", id: "layout-arrange", text: say("Arrange it …"), onclick: () => arrangeIt(arrange) })] : []));
  }
  async function arrangeIt(filled) {
    fields.show("tool.arrange", filled);
    byId("part-prepare-button")?.click();
    (await drawnPlace('#prepare-tool input[value="arrange"]'))?.click();
    setTimeout(() => document.querySelector("button#prepare-look, #prepare-look button")?.click(), 100);
  }

  function tell(message) {
    const place = byId("start-message");
    if (place && place.innerHTML !== message) place.innerHTML = message;
  }
  async function press(what, more) {
    const answer = await act(what, more);
    tell(answer.message || "");
    if (answer.tab === "run") window.atelierRun.look();
  }
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("#start, #queue-add");
    if (button) press(button.id === "start" ? "start" : "add", { edited: state.edited });
  });
  document.addEventListener("change", ({ target }) => {
    if (target.id === "data-subset") {
      Object.assign(state, { subset: target.value, first: 0 });
      look();
    } else if (target.name === "level") {
      state.level = target.value;
      showLevel(state.level);
      look();
    }
  });
  function drawLevel() {
    document.querySelectorAll('#level input[name="level"]').forEach((choice) => { choice.checked = choice.value === state.level; });
    showLevel(state.level);
  }

  window.atelier.whenReset((path, shown) => {
    fields.show("form", { [path]: shown });
    look();
  });
  // What a tool made goes into fields: JSON of {group: {name: value}}.
  function filled(told) {
    Object.entries(JSON.parse(told || "{}")).forEach(([group, shown]) => fields.show(group, shown));
    filesChanged();
  }
  function filesChanged() {
    state.files += 1;
    look();
  }

  async function start(element, itsServer) {
    server = itsServer;
    key = element.querySelector("#form-place").dataset.key;
    const { error, level, preset, shown, parts, tab, measures } = await ask("arrive");
    if (error) return tell(paragraph(error));
    Object.assign(state, { level, preset });
    const entered = { ...JSON.parse(sessionStorage.getItem(UNKEPT) || "{}"), ...unkept() };
    sessionStorage.removeItem(UNKEPT);
    fields.show("form", { ...shown, ...entered });
    drawLevel();
    edits(sessionStorage.getItem(EDITED) || "");
    draw(parts);
    nowArrived();
    if (Object.keys(entered).length) look();
    if (tab) openTab(tab);
    if (measures) window.atelierForecast.follow();
  }

  return { start, drawn, arrived, look, settle, act, ask, filled, filesChanged, state, edit: (entry) => press("edit", { entry }) };
})();
