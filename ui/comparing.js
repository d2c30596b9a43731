// The tab "Compare": its form, what it would take, and starting it; comparing_job.js shows what came of it. Names and
// sentences are only ever put in as text (textContent).
window.atelierComparing = (() => {
  const { el, say, showMarks, drawnPlace, openTab } = window.atelier;
  const GROUP = "comparing", EDITED_MS = 250, MOST_PREVIEW = 400;
  const state = { server: null, key: "", tool: "compare", kinds: {}, hasArrived: false, isTouched: false, estimate: null };
  let fields = null; // fields.js comes after this script
  const byId = (id) => document.getElementById(id);
  const button = (text, onclick, more = {}) => el("button", { type: "button", text, onclick, ...more });

  async function ask(what, more = {}) {
    try {
      return JSON.parse(await state.server.compare(JSON.stringify({ key: state.key, ask: what, ...more })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }
  const filled = () => ({ tool: state.tool, form: fields.values(GROUP), keep: state.isTouched });

  let pause = 0;
  const lookAgain = window.atelier.latest(async (isStale) => {
    if (!state.hasArrived) return; // its fields hold nothing of the user's yet
    const answer = await ask("edited", filled());
    if (!isStale()) drawEstimate(answer);
  });
  function look() {
    clearTimeout(pause);
    return lookAgain();
  }
  function heard(name) {
    state.isTouched = true;
    if (/^compare\.[xyz]\.kind$/.test(name)) dressAxes();
    clearTimeout(pause);
    pause = setTimeout(look, EDITED_MS);
  }

  // What it would take, what is in the way, and the empty grid.
  function drawEstimate(answer) {
    state.estimate = answer;
    if (answer.marks) showMarks(answer.marks);
    const root = byId("comparing-estimate");
    if (!root) return;
    const { summary = "", problems = [], axes = [], error = "" } = answer;
    const lines = summary.split(/(?<=\.) |(?<=。)/).filter(Boolean);
    root.replaceChildren(...[
      el("h4", { text: say("What it will take") }),
      error ? el("p", { class: "fault", role: "alert", text: error }) : null,
      summary ? el("ul", { class: "comparing-summary" }, ...lines.map((text) => el("li", { text }))) : null,
      problems.length ? problemList(problems) : null,
      axes.length ? preview(axes) : null,
    ].filter(Boolean));
  }
  function problemList(problems) {
    return el("div", { class: "fault" }, el("p", { text: say("This is in the way:") }), el("ul", { class: "notes problem" }, ...problems.map(({ field, label, message }) =>
      el("li", {}, label ? (field ? el("a", { href: "#", text: label, "data-field": field }) : el("b", { text: label })) : null, el("span", { text: " " + message })))));
  }
  function preview(axes) {
    const [x, y, z] = axes.map(({ labels }) => Math.max(1, labels.length));
    const size = say("{columns} × {rows}", { columns: x, rows: y }) + (z > 1 ? " × " + z : "");
    const head = el("p", { class: "quiet", text: say("The grid will be {size}.", { size }) });
    return x * y > MOST_PREVIEW ? head : el("div", {}, head, window.atelierComparingJob.emptyGrid(axes));
  }

  async function begin(what, isFollowed) {
    if (!state.hasArrived) return;
    const answer = await ask(what, filled());
    const place = byId("comparing-message");
    place.replaceChildren(...(answer.error ? [el("p", { class: "fault", role: "alert", text: answer.error })] : []));
    if (answer.marks) drawEstimate(answer);
    if (!answer.job) return;
    if (!isFollowed) place.replaceChildren(el("p", { class: "done", role: "status", text: say("It waits in the queue, and begins when the device is free.") }));
    await window.atelierComparingJob.follow(answer.job);
  }

  // ---- the form
  function chooseTool(tool) {
    state.tool = tool;
    byId("comparing-form").dataset.tool = tool;
    document.querySelectorAll('input[name="comparing-tool"]').forEach((choice) => { choice.checked = choice.value === tool; });
    document.querySelectorAll("#comparing-tools p, .comparing-own").forEach((part) => { part.hidden = part.dataset.tool !== tool; });
    look();
  }
  function show(shown) {
    fields.show(GROUP, shown);
    dressAxes();
  }
  // Help, example and what can be added, by what changes along each axis.
  function dressAxes() {
    const values = fields.values(GROUP);
    document.querySelectorAll(".comparing-axis").forEach((place) => {
      const name = `compare.${place.dataset.axis}`, kind = values[`${name}.kind`] || "none";
      const [help, example] = state.kinds[kind] || ["", ""];
      const entry = place.querySelector("textarea"), add = place.querySelector(".comparing-add-to");
      place.querySelector(".info-text").textContent = help;
      entry.placeholder = example;
      entry.rows = kind === "checkpoint" || kind === "base_model" ? 4 : 2;
      place.classList.toggle("is-nothing", kind === "none");
      add.hidden = kind !== "checkpoint";
      if (kind === "checkpoint" && !add.children.length) add.append(adder(`${name}.values`));
    });
    byId("comparing-drawn-with").textContent = say("{sampler}, {steps} steps, {width}×{height}", {
      sampler: values["sampling.sampler"], steps: values["sampling.steps"], width: values["picture.width_px"], height: values["picture.height_px"] });
  }
  function adder(name) {
    const title = () => new Option(say("Add checkpoints"), "");
    const choice = el("select", { ariaLabel: say("Add checkpoints"), onfocus: () => list(choice, title), onchange: () => {
      const present = String(fields.values(GROUP)[name] || "").split("\n").filter((line) => line.trim());
      if (choice.value && !present.includes(choice.value)) show({ [name]: [...present, choice.value].join("\n") });
      choice.selectedIndex = 0;
      heard(name);
    } }, title());
    list(choice, title);
    return choice;
  }
  async function list(choice, title) {
    const [{ runs = [] }, { groups = [] }] = await Promise.all([ask("sources"), ask("loras")]);
    const text = JSON.stringify([runs, groups]);
    if (choice.dataset.known === text) return;
    choice.dataset.known = text;
    const whole = runs.length ? [el("optgroup", { label: say("All checkpoints of the run") }, ...runs.map(({ title: name, path }) => new Option(name, path)))] : [];
    choice.replaceChildren(title(), ...whole, ...groups.map(({ title: name, items }) => el("optgroup", { label: name }, ...items.map((item) => new Option(item.title, item.path)))));
  }

  // ---- what to begin with
  function drawSources({ runs = [], presets = [] }) {
    const choice = byId("comparing-from");
    const text = JSON.stringify([runs, presets]);
    if (choice.dataset.known === text) return;
    choice.dataset.known = text;
    const group = (label, items) => (items.length ? [el("optgroup", { label }, ...items.map(({ title, path }) => new Option(title, path)))] : []);
    choice.replaceChildren(new Option(say("Choose …"), ""), new Option(say("The form of the tab Sample"), "sample"),
      ...group(say("Runs"), runs), ...group(say("Drawing presets"), presets));
  }
  async function take(source) {
    if (!source) return;
    const { shown, error } = await ask("begin", { from: source });
    const place = byId("comparing-message");
    place.replaceChildren(...(error ? [el("p", { class: "fault", role: "alert", text: error })] : []));
    if (!shown) return;
    state.isTouched = true;
    show(shown);
    await look();
  }

  let nowArrived = null;
  const arrived = new Promise((resolve) => { nowArrived = resolve; });
  async function arrive() {
    const { tool, shown, error, ...sources } = await ask("arrive");
    if (error) return drawEstimate({ error });
    drawSources(sources);
    show(shown);
    state.hasArrived = true;
    chooseTool(tool);
    nowArrived();
  }
  function start(element, server) {
    const root = element.querySelector("#comparing-root");
    if (!fields) window.atelierFields.hear(GROUP, heard);
    fields = window.atelierFields;
    Object.assign(state, { server, key: root.dataset.key, kinds: JSON.parse(root.dataset.kinds) });
    byId("comparing-start").addEventListener("click", () => begin("start", true));
    byId("comparing-add").addEventListener("click", () => begin("add", false));
    byId("comparing-from").addEventListener("focus", async () => drawSources(await ask("sources")));
    byId("comparing-from").addEventListener("change", ({ target }) => {
      take(target.value);
      target.selectedIndex = 0;
    });
    byId("comparing-take").addEventListener("click", () => take(byId("step-comparing-source").querySelector("input").value.trim()));
    root.addEventListener("change", ({ target }) => {
      if (target.name !== "comparing-tool") return;
      state.isTouched = true;
      chooseTool(target.value);
    });
    if (state.hasArrived) chooseTool(state.tool);
    else arrive();
    if (state.estimate) drawEstimate(state.estimate);
    window.atelierComparingJob.start(ask);
  }

  // "Compare checkpoints" of a run.
  document.addEventListener("click", async ({ target }) => {
    const pressed = target.closest?.("[data-compare-run]");
    if (!pressed) return;
    openTab("compare");
    await drawnPlace("#comparing-root");
    await arrived;
    chooseTool("compare");
    await take(pressed.dataset.compareRun);
    byId("comparing-tools").scrollIntoView({ block: "nearest" });
  });

  return { start };
})();
