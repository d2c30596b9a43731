// The tab "Sample": what is drawn now, the pictures that were, and ways to put something into its form. Prompts and names
// are only ever put in as text (textContent).
window.atelierSample = (() => {
  const { el, say, showMarks, copies } = window.atelier;
  const fields = window.atelierFields;
  const GROUP = "drawing", EDITED_MS = 250;
  const HEAD_BYTES = 2 * 1024 * 1024, MOST_BYTES = 11 * 1024 * 1024;
  const PAGE = 60;
  const state = { server: null, hasArrived: false, key: "", seen: {}, live: null, pictures: null, most: PAGE, chosen: null, about: null, told: "", binned: "", sizes: [] };
  const byId = (id) => document.getElementById(id);
  const button = (text, onclick, more = {}) => el("button", { type: "button", text, onclick, ...more });

  async function ask(what, more = {}) {
    try {
      return JSON.parse(await state.server.sample(JSON.stringify({ key: state.key, ask: what, ...more })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }
  // Into the form: {values: {"group.name": value}}, {lora: path}, or {lora, run: true} for all that tries a checkpoint.
  async function fill(what) {
    const { shown, error } = await ask("fill", { ...what, form: fields.values(GROUP) });
    if (error) return tell(error);
    fields.show(GROUP, shown);
    edited();
  }
  // The form is kept and marked after each pause; of several answers the last one counts.
  let pause = 0, number = 0;
  fields.hear(GROUP, () => {
    clearTimeout(pause);
    pause = setTimeout(edited, EDITED_MS);
  });
  async function edited() {
    clearTimeout(pause);
    if (!state.hasArrived) return; // its fields hold nothing of the user's yet
    const mine = ++number;
    const { marks } = await ask("edited", { form: fields.values(GROUP) });
    if (marks && mine === number) showMarks(marks);
  }
  async function draw() {
    if (!state.hasArrived) return;
    const { message = "", marks, error } = await ask("draw", { form: fields.values(GROUP) });
    byId("sample-message").innerHTML = message;
    tell(error);
    if (marks) showMarks(marks);
    look();
  }
  function tell(text) {
    state.told = text || "";
    drawLive();
  }

  const look = window.atelier.repeatedly("sample-live", lookOnce, () => state.live?.busy);
  async function lookOnce() {
    const answer = await ask("look", { seen: state.seen, most: state.most });
    if (answer.error) return;
    for (const [name, { digest, content }] of Object.entries(answer.parts)) {
      const before = state[name];
      state[name] = content;
      if (name === "live") {
        const isNew = content.drawn.length && content.drawn.length !== (before?.request === content.request ? before.drawn.length : 0);
        if (before && isNew) choose(content.drawn[content.drawn.length - 1]);
        drawLive();
      } else drawHistory();
      if (byId(name === "live" ? "sample-live" : "sample-history")) state.seen[name] = digest;
    }
  }

  let nowArrived = null;
  const arrived = new Promise((resolve) => { nowArrived = resolve; });
  async function arrive() {
    const { shown, marks } = await ask("arrive");
    if (!shown) return;
    fields.show(GROUP, shown);
    showMarks(marks);
    state.hasArrived = true;
    nowArrived();
  }
  function start(element, server) {
    Object.assign(state, { server, key: element.querySelector("#sample-live").dataset.key });
    document.addEventListener("visibilitychange", () => document.hidden || look());
    byId("tab-sample-button")?.addEventListener("click", () => setTimeout(look, 50));
    byId("sample-draw").addEventListener("click", draw);
    drawLive();
    drawHistory();
    arrive();
    tools();
    look();
  }

  // What is drawn now, or the chosen picture, or what to do.
  function drawLive() {
    const root = byId("sample-live");
    if (!root) return;
    const { live } = state;
    root.replaceChildren(...[
      state.told ? el("p", { class: "fault", role: "alert", text: state.told }) : null,
      live?.busy ? drawProgress(live) : null,
      live && !live.busy ? drawOutcome(live) : null,
      drawStage(live),
      state.binned ? el("p", { class: "quiet" }, el("span", { text: say("The picture is in the bin.") + " " }), button(say("Put back"), restore, { class: "link" })) : null,
      state.chosen || state.about ? drawAbout() : null,
    ].filter(Boolean));
  }
  function drawProgress(live) {
    const text = live.total ? say("{stage}: {done} of {total}", { stage: live.stage, done: live.done, total: live.total }) : live.stage + " …";
    const more = live.waiting ? " · " + say("{count} more waiting", { count: live.waiting }) : "";
    return el("div", { class: "sample-progress" },
      el("div", {}, el("span", { text: text + more, role: "status" }), button(say("Stop"), async () => tell((await ask("stop")).error), { id: "sample-stop", class: "bad" })),
      el("progress", { max: live.total || 1, ...(live.total ? { value: live.done } : {}) }));
  }
  function drawOutcome({ outcome, message, problems }) {
    if (message || problems.length) {
      const said = problems.map(({ field, label, message: why }) => el("li", {}, ...[
        label ? el("a", { href: "#", text: label, ...(field ? { "data-field": field } : {}) }) : null, el("span", { text: " " + why })].filter(Boolean)));
      return el("div", { class: "fault", role: "alert" }, el("p", { text: say("The pictures were not drawn.") }),
        said.length ? el("ul", {}, ...said) : el("pre", { text: message }));
    }
    return outcome === "cancelled" ? el("p", { class: "quiet", text: say("Stopped.") }) : null;
  }
  function drawStage(live) {
    if (live?.busy && live.preview) return el("figure", { class: "stage" }, el("img", { src: live.preview, alt: say("The picture so far"), class: "soft" }));
    if (state.chosen) {
      const link = el("a", { href: state.chosen.url, title: say("Full size") }, el("img", { src: state.chosen.url, alt: state.chosen.name }));
      link.dataset.full = state.chosen.name;
      return el("figure", { class: "stage" }, link);
    }
    if (live?.busy) return el("figure", { class: "stage empty" }, el("p", { class: "quiet", text: say("The first look at a model takes a while: it is loaded into memory and stays there.") }));
    if (state.about) return null;
    return el("figure", { class: "stage empty" }, el("div", {}, el("h4", { text: say("Your picture appears here") }),
      el("p", { class: "quiet", text: say("Write a prompt, choose a base model and a LoRA, then press Generate. With a run's “Sample with it” all of that is filled in.") })));
  }

  // The settings of the chosen picture, or of one that was given to be read.
  function drawAbout() {
    const { chosen, about } = state;
    const buttons = [];
    if (about && Object.keys(about.values || {}).length) buttons.push(button(say("Use these settings"), () => fill({ values: about.values }), { id: "sample-use", class: chosen ? "" : "primary" }));
    if (chosen?.seed) buttons.push(copies(say("Copy seed"), chosen.seed));
    if (about?.prompt) buttons.push(copies(say("Copy prompt"), about.prompt));
    if (chosen) buttons.push(button(say("Begin with it"), () => fill({ values: { "image.init": chosen.path } }), { title: say("Draw the next picture from this one") }), button(say("Delete"), remove, { id: "sample-delete", class: "bad" }));
    else buttons.push(button(say("Close"), () => { state.about = null; drawLive(); }));
    return el("div", { class: "sheet sample-about" },
      el("h4", {}, el("span", { text: chosen ? chosen.name : say("Settings in the picture") }), about?.source ? el("span", { class: "quiet", text: about.source }) : null),
      about?.prompt ? el("p", { class: "prompt", text: about.prompt }) : null,
      about?.negative ? el("p", { class: "prompt quiet", text: say("Not: {prompt}", { prompt: about.negative }) }) : null,
      el("div", { class: "sample-buttons" }, ...buttons),
      about?.notes?.length ? el("ul", { class: "notes" }, ...about.notes.map((text) => el("li", { text }))) : null,
      about?.rows?.length ? el("dl", {}, ...about.rows.flatMap(([label, value]) => [el("dt", { text: label }), el("dd", { text: value })])) : null);
  }
  async function choose(picture) {
    Object.assign(state, { chosen: picture, about: null, told: "" });
    drawLive();
    drawHistory();
    const about = await ask("about", { path: picture.path });
    if (state.chosen?.path !== picture.path) return;
    state.about = about.error ? null : about;
    drawLive();
  }
  async function remove() {
    const { binned, error } = await ask("delete", { path: state.chosen.path });
    if (error) return tell(error);
    Object.assign(state, { chosen: null, about: null, binned });
    drawLive();
    look();
  }
  async function restore() {
    const { error } = await ask("restore", { binned: state.binned });
    state.binned = "";
    tell(error);
    look();
  }

  // All pictures, by day. Those whose small copy is still being made come with a later look.
  function drawHistory() {
    const root = byId("sample-history");
    if (!root) return;
    const { pictures } = state;
    const head = el("h4", {}, el("span", { text: say("Pictures") }), el("span", { class: "quiet", text: pictures?.total ? pictures.total.toLocaleString("en") : "" }), el("span", { class: "grow" }), reader());
    const body = pictures?.total ? pictures.days.map(drawDay) : [el("p", { class: "quiet", text: say("Every picture that you draw is kept here with its settings. You can also read the settings out of a picture from elsewhere.") })];
    const more = pictures && pictures.total > state.most ? [button(say("Show more"), () => { state.most += PAGE * 2; look(); })] : [];
    root.replaceChildren(el("section", { class: "sheet" }, head, ...body, ...more));
  }
  function drawDay({ day, items }) {
    return el("div", { class: "day" }, el("h5", { text: day }), el("div", { class: "grid" }, ...items.map((item) =>
      el("button", { type: "button", class: item.path === state.chosen?.path ? "chosen" : "", title: item.name, "aria-label": say("Picture {name}", { name: item.name }), onclick: () => {
        choose(item);
        byId("sample-place")?.scrollIntoView({ behavior: "smooth", block: "nearest" });
      } }, item.small ? el("img", { src: item.small, alt: "", loading: "lazy" }) : el("span", { class: "quiet", text: "…" })))));
  }
  function reader() {
    return picker(say("Read settings from a picture"), "sample-read", async (file) => {
      const isWhole = file.type === "image/webp" || file.size <= HEAD_BYTES; // there they stand at the end
      const answer = await ask("read", { content: await encoded(isWhole ? file : file.slice(0, HEAD_BYTES)) });
      if (answer.error) return tell(answer.error);
      Object.assign(state, { chosen: null, about: answer, told: "" });
      drawLive();
      byId("sample-place")?.scrollIntoView({ behavior: "smooth", block: "nearest" });
    });
  }
  function picker(title, id, take) {
    const input = el("input", { id, accept: "image/png,image/jpeg,image/webp", hidden: true, onchange: async () => {
      const [file] = input.files;
      input.value = "";
      if (!file) return;
      if (file.size > MOST_BYTES && (file.type === "image/webp" || id !== "sample-read")) tell(say("This file is larger than 11 MB. Give a smaller one, or choose it by its path."));
      else await take(file);
    } });
    input.setAttribute("type", "file");
    return el("span", {}, input, button(title, () => input.click()));
  }
  const encoded = (blob) => new Promise((resolve) => {
    const reading = new FileReader();
    reading.onload = () => resolve(String(reading.result).split(",")[1] || "");
    reading.onerror = () => resolve("");
    reading.readAsDataURL(blob);
  });

  // Below the fields of the form: sizes, LoRAs to choose, pictures from this computer.
  async function tools() {
    const hello = await ask("hello");
    state.sizes = hello.sizes || [];
    drawTools();
  }
  function drawTools() {
    const sizes = byId("sample-sizes"), loras = byId("sample-loras-tools"), image = byId("sample-image-tools");
    if (sizes && !sizes.children.length && state.sizes.length) {
      const choice = el("select", { ariaLabel: say("Sizes of SDXL"), onchange: () => {
        const [width, height] = choice.value.split("×").map(Number);
        choice.selectedIndex = 0;
        fill({ values: { "picture.width_px": width, "picture.height_px": height } });
      } }, new Option(say("Sizes of SDXL"), ""), ...state.sizes.map(([width, height]) => new Option(`${width}×${height}`)));
      sizes.append(choice, button(say("Swap width and height"), swap), button(say("Draw a seed each time"), () => fill({ values: { "picture.seed": -1 } })));
    }
    if (loras && !loras.children.length) {
      const choice = el("select", { id: "sample-lora", ariaLabel: say("Add a LoRA"), onfocus: () => list(choice), onchange: () => {
        if (choice.value) fill({ lora: choice.value });
        choice.selectedIndex = 0;
      } }, new Option(say("Add a LoRA"), ""));
      loras.append(choice);
      list(choice);
    }
    if (image && !image.children.length) {
      image.append(picker(say("Upload a picture"), "sample-upload-init", (file) => upload("image.init", file)), picker(say("Upload a mask"), "sample-upload-mask", (file) => upload("image.mask", file)));
    }
  }
  function swap() {
    const { "picture.width_px": width, "picture.height_px": height } = fields.values(GROUP);
    if (width && height) fill({ values: { "picture.width_px": height, "picture.height_px": width } });
  }
  async function list(choice) {
    const { groups = [] } = await ask("loras");
    const text = JSON.stringify(groups);
    if (choice.dataset.known === text) return;
    choice.dataset.known = text;
    choice.replaceChildren(new Option(groups.length ? say("Add a LoRA") : say("No LoRA yet: train one, or put files into the folder loras"), ""),
      ...groups.map(({ title, items }) => el("optgroup", { label: title }, ...items.map((item) => new Option(item.title, item.path)))));
  }
  async function upload(where, file) {
    const { values, error } = await ask("upload", { for: where, content: await encoded(file) });
    tell(error);
    if (values) fill({ values });
  }

  // Settings from elsewhere go into the form, which is shown: see `fill`.
  function take(what) {
    byId("tab-sample-button")?.click();
    return arrived.then(() => fill(what));
  }
  // "Sample with it" beside a checkpoint of a run.
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.("[data-sample]");
    if (pressed) take({ lora: pressed.dataset.sample, run: true });
  });

  return { start, look, take };
})();
