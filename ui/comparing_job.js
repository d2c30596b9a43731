// The comparisons there are: one of them with its cells as they finish, its grids and its scores. What stands in scores and
// state is HTML that the page's program has made and escaped; labels and notes are only ever put in as text.
window.atelierComparingJob = (() => {
  const { el, say, copyBy, openTab } = window.atelier;
  const ROW = "row "; // what the parts with the cells of a row are called
  const state = { ask: null, job: "", z: 0, seen: {}, isBusy: false, message: "", parts: {}, rows: new Map(), cells: new Map(), open: null };
  const byId = (id) => document.getElementById(id);
  const button = (text, onclick, more = {}) => el("button", { type: "button", text, onclick, ...more });

  const look = window.atelier.repeatedly("comparing-job", lookOnce, () => state.isBusy);
  async function lookOnce() {
    const { job, z } = state;
    const answer = await state.ask("look", { job, z, seen: state.seen });
    if (answer.error || job !== state.job || z !== state.z) return; // another one was chosen meanwhile
    Object.assign(state, { job: answer.job, isBusy: answer.busy });
    for (const [name, { digest, content }] of Object.entries(answer.parts)) {
      if (name.startsWith(ROW)) state.rows.set(name, content);
      else state.parts[name] = content;
      state.seen[name] = digest;
    }
    if (state.parts.job) state.z = state.parts.job.z;
    draw(answer.parts);
  }
  function choose(job) {
    Object.assign(state, { job, z: 0, seen: {}, rows: new Map(), message: "" });
    const { jobs } = state.parts;
    state.parts = jobs ? { jobs } : {};
    return look();
  }
  async function follow(job) {
    await choose(job);
    byId("comparing-job")?.scrollIntoView({ behavior: "smooth", block: "start" });
  }
  function choosePlace(z) {
    const { axes, job, ...seen } = state.seen;
    Object.assign(state, { z, rows: new Map(), seen: Object.fromEntries(Object.entries(seen).filter(([name]) => !name.startsWith(ROW))) });
    look();
  }
  async function press(what) {
    const { error = "" } = await state.ask(what, { job: state.job });
    state.message = error;
    drawState();
    look();
  }

  // ---- drawing it: places that stay, and what is in them
  function start(ask) {
    state.ask = ask;
    state.seen = {};
    byId("comparing-job").replaceChildren(el("div", { id: "comparing-jobs" }), el("div", { id: "comparing-state" }), el("div", { id: "comparing-scores" }),
      el("div", { id: "comparing-grid" }), el("div", { id: "comparing-made" }));
    document.addEventListener("visibilitychange", () => document.hidden || look());
    byId("tab-compare-button")?.addEventListener("click", () => setTimeout(look, 50));
    byId("comparing-scores").addEventListener("click", used);
    look();
  }
  function draw(changed) {
    if (!byId("comparing-jobs")) return;
    if (changed.jobs || changed.job) drawJobs();
    if (changed.job) drawState();
    if (changed.scores) byId("comparing-scores").innerHTML = state.parts.scores;
    if (changed.axes || changed.job || Object.keys(changed).some((name) => name.startsWith(ROW))) drawGrid();
    if (changed.made) drawMade();
  }
  function drawJobs() {
    const { jobs = [] } = state.parts;
    const choice = el("select", { id: "comparing-choice", ariaLabel: say("Comparison"), onchange: () => choose(choice.value) },
      ...jobs.map(({ title, path }) => new Option(title, path, false, path === state.job)));
    const about = el("p", { class: "quiet", text: say("Nothing was compared yet. Each comparison is kept here with its pictures; it goes on when this page is closed.") });
    const had = document.activeElement?.id === "comparing-choice";
    byId("comparing-jobs").replaceChildren(el("h4", { text: say("Comparisons") }), jobs.length ? choice : about);
    if (had) choice.focus();
  }
  function drawState() {
    const { job } = state.parts;
    const place = byId("comparing-state");
    if (!job) return place.replaceChildren();
    const told = el("div", {});
    told.innerHTML = job.html;
    place.replaceChildren(...[
      told,
      state.message ? el("p", { class: "fault", role: "alert", text: state.message }) : null,
      job.stop || job.go_on || job.waits ? el("div", { class: "comparing-buttons" },
        job.stop ? button(say("Stop"), () => press("stop"), { id: "comparing-stop", class: "bad" }) : null,
        job.go_on ? button(say("Go on"), () => press("go_on"), { id: "comparing-go-on", class: "primary", title: say("Draws what is missing; pictures that are there are kept") }) : null,
        job.waits ? button(say("Show the queue"), () => openTab("queue")) : null) : null,
    ].filter(Boolean));
  }

  // ---- the grid
  const keyOf = ([x, y]) => `${x},${y}`;
  function emptyGrid(axes) {
    return table(axes, "small");
  }
  function table(axes, size) {
    const [x, y] = axes;
    const columns = x.labels.length ? x.labels : [""], rows = y.labels.length ? y.labels : [""];
    const hasRows = rows.some(Boolean), hasColumns = columns.some(Boolean);
    const corner = hasRows ? [el("td", { class: "corner" })] : [];
    const head = el("tr", {}, ...corner, ...columns.map((text) => el("th", { scope: "col", title: text }, el("span", { text }))));
    const body = rows.map((text) => el("tr", {}, ...(hasRows ? [el("th", { scope: "row", title: text }, el("span", { text }))] : []),
      ...columns.map(() => el("td", {}, size === "small" ? el("span", { class: "blank" }) : null))));
    return el("div", { class: `comparing-scroll ${size}`, tabIndex: size === "small" ? -1 : 0, role: "group", ariaLabel: say("Grid") },
      el("table", { class: "comparing-table" }, el("thead", { hidden: !hasColumns && !hasRows }, head), el("tbody", {}, ...body)));
  }
  function inCell(cell) {
    if (!cell) return el("span", { class: "blank", text: say("not drawn yet") });
    if (cell.outcome === "failed") return el("span", { class: "blank failed", tabIndex: 0, title: cell.note, text: cell.note });
    if (!cell.path) return el("span", { class: "blank failed", text: say("The picture is gone.") });
    const made = button("", () => open(cell), { class: "cell", "aria-label": say("Picture of {label}", { label: cell.label }), title: cell.label, onkeydown: along, "data-place": keyOf(cell.place) });
    made.append(picture(cell));
    return made;
  }
  function picture(cell) {
    return cell.small ? el("img", { src: cell.small, alt: "", loading: "lazy" }) : el("span", { class: "blank", text: "…" });
  }
  // What is there stays: only cells that changed are drawn anew, so that nothing flickers and the focus remains.
  let drawnFor = "";
  function drawGrid() {
    const { axes = [], job } = state.parts;
    const place = byId("comparing-grid");
    const shape = JSON.stringify([state.job, axes, job?.z]);
    state.cells = new Map([...state.rows.values()].flat().map((cell) => [keyOf(cell.place), cell]));
    if (!axes.length) {
      drawnFor = "";
      return place.replaceChildren(...(job ? [el("p", { class: "quiet", text: say("The grid appears here as soon as the job has looked at its files.") })] : []));
    }
    if (shape !== drawnFor || !place.children.length) {
      drawnFor = shape;
      const size = el("input", { id: "comparing-size", min: 96, max: 448, step: 32, value: kept(), ariaLabel: say("Size of the pictures"), oninput: () => resize(size.value) });
      size.setAttribute("type", "range");
      const legends = axes.slice(0, 2).filter(({ title }) => title).map(({ title }, at) => `${at ? "↓" : "→"} ${title}`).join("  ");
      place.replaceChildren(el("div", { class: "sheet" }, el("h4", {}, el("span", { text: say("Grid") }), el("span", { class: "quiet grow", text: legends }), el("label", { class: "comparing-size" }, el("span", { class: "quiet", text: say("Size") }), size)),
        ...places(axes[2], job?.z || 0), table(axes, "large")));
      resize(kept());
    }
    place.querySelectorAll("tbody tr").forEach((row, y) => [...row.querySelectorAll("td")].forEach((td, x) => {
      const cell = state.cells.get(keyOf([x, y]));
      const told = JSON.stringify(cell || null);
      if (td.dataset.told === told) return;
      td.dataset.told = told;
      td.replaceChildren(inCell(cell));
    }));
    if (state.open) drawOpen();
  }
  const kept = () => Number(localStorage.getItem("atelier.comparing") || 192);
  function resize(px) {
    localStorage.setItem("atelier.comparing", px);
    byId("comparing-grid").style.setProperty("--cell", `${px}px`);
  }
  // The third axis: a grid for each of its places.
  function places(axis, chosen) {
    if (!axis || axis.labels.length < 2) return [];
    const buttons = axis.labels.map((label, z) => button(label, () => choosePlace(z), { "aria-pressed": String(z === chosen), class: z === chosen ? "chosen" : "" }));
    return [el("div", { class: "comparing-places", role: "group", ariaLabel: axis.title }, el("span", { class: "quiet", text: axis.title }), ...buttons)];
  }
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function next(from, [right, down]) {
    const [columns, rows] = state.parts.axes.slice(0, 2).map(({ labels }) => Math.max(1, labels.length));
    for (let [x, y] = [from[0] + right, from[1] + down]; x >= 0 && y >= 0 && x < columns && y < rows; x += right, y += down) {
      const cell = state.cells.get(keyOf([x, y]));
      if (cell?.path) return cell;
    }
    return null;
  }
  const buttonOf = (cell) => byId("comparing-grid").querySelector(`[data-place="${keyOf(cell.place)}"]`);
  function along(event) {
    const step = STEPS[event.key];
    const cell = step && next(event.currentTarget.dataset.place.split(",").map(Number), step);
    if (!cell) return;
    event.preventDefault();
    buttonOf(cell)?.focus();
  }

  // ---- one picture, with its settings
  async function open(cell) {
    if (!byId("comparing-cell")) {
      const dialog = el("dialog", { id: "comparing-cell", class: "drawn", onclose: () => {
        const was = state.open;
        state.open = null;
        dialog.remove();
        if (was) buttonOf(was)?.focus();
      }, onkeydown: (event) => {
        const other = STEPS[event.key] && state.open && next(state.open.place, STEPS[event.key]);
        if (!other) return;
        event.preventDefault();
        open(other);
      } });
      document.body.append(dialog);
      dialog.showModal();
    }
    Object.assign(state, { open: cell, about: null });
    drawOpen();
    const about = await state.ask("about", { job: state.job, path: cell.path });
    if (state.open?.path !== cell.path) return;
    state.about = about;
    drawOpen();
  }
  function drawOpen() {
    const dialog = byId("comparing-cell"), { open: cell, about } = state;
    if (!dialog || !cell) return;
    const had = dialog.querySelector(":focus")?.id;
    const hasSettings = about && Object.keys(about.values || {}).length > 0;
    dialog.ariaLabel = cell.label;
    dialog.replaceChildren(
      el("div", { class: "comparing-stage" }, el("img", { src: cell.url, alt: say("Picture of {label}", { label: cell.label }) })),
      el("div", { class: "comparing-about" },
        el("div", { class: "head" }, el("h4", { text: cell.label }), button(say("Close"), () => dialog.close(), { id: "comparing-close" })),
        el("div", { class: "comparing-buttons" },
          hasSettings ? button(say("Use in Sample"), () => { dialog.close(); window.atelierSample.take({ values: about.values }); }, { id: "comparing-use-cell", class: "primary" }) : null,
          el("a", { href: cell.url, download: cell.path.split(/[\\/]/).pop(), class: "file-button", text: say("Download") })),
        about?.error ? el("p", { class: "fault", text: about.error }) : null,
        about?.prompt ? el("p", { class: "prompt", text: about.prompt }) : null,
        about?.negative ? el("p", { class: "prompt quiet", text: say("Not: {prompt}", { prompt: about.negative }) }) : null,
        about?.rows?.length ? el("dl", {}, ...about.rows.flatMap(([label, value]) => [el("dt", { text: label }), el("dd", { text: value })])) : null,
        el("p", { class: "quiet", text: say("Arrow keys go to the pictures beside it.") })));
    (byId(had) || byId("comparing-close")).focus();
  }

  // ---- what was put together, and the proposal
  function drawMade() {
    const { made = [] } = state.parts;
    const figures = made.map(({ name, url }) => {
      const link = el("a", { href: url, title: say("Full size") }, el("img", { src: url, alt: name, loading: "lazy" }));
      link.dataset.full = name;
      return el("figure", {}, link, el("figcaption", {}, el("span", { text: name }), el("a", { href: url, download: name, text: say("Download") })));
    });
    byId("comparing-made").replaceChildren(...(made.length ? [el("div", { class: "sheet" }, el("h4", { text: say("To download") }), el("div", { class: "comparing-files" }, ...figures))] : []));
  }
  async function used({ target }) {
    const copy = target.closest("[data-comparing-copy]");
    if (copy) return copyBy(copy, copy.dataset.comparingCopy);
    if (!target.closest("#comparing-use")) return;
    const { values, error = "" } = await state.ask("use", { job: state.job });
    state.message = error;
    drawState();
    if (values) window.atelierSample.take({ values });
  }

  return { start, look, follow, emptyGrid };
})();
