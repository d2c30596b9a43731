// The Queue tab: what waits and runs, and all runs that were. It speaks the JSON API (docs/api.md). Names, notes and
// messages are only ever put in as text (textContent), never as HTML.
window.atelierQueue = (() => {
  const { say } = window.atelier;
  const el = (...given) => window.atelierBench.el(...given);
  const LOOK_MS = 3000;
  const STATES = {
    waiting: say("waiting"), running: say("running"), finished: say("finished"), stopped: say("stopped"),
    failed: say("failed"), killed: say("interrupted"), new: say("not started"),
  };
  const state = { root: null, fault: "", queue: null, runs: null, bin: [], seen: "", filter: "", chosen: [], compared: null };

  async function ask(method, path, body) {
    const options = { method, headers: {}, cache: "no-store" };
    if (method === "POST" || method === "PUT") {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body || {});
    }
    try {
      const answer = await fetch(`api/v1/${path}`, options);
      const told = await answer.json();
      return answer.ok ? told : { error: told.error || say("The page's program refused this.") };
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }
  async function act(method, path, body) {
    const told = await ask(method, path, body);
    state.fault = told.error || "";
    await look(true);
    return told;
  }

  // Looks while the tab is in view; draws when something changed and nobody is typing in it.
  async function look(always = false) {
    if (!state.root || (!always && (document.hidden || state.root.offsetParent === null))) return;
    const [queue, runs, bin] = await Promise.all([ask("GET", "queue"), ask("GET", "runs"), ask("GET", "bin")]);
    const fault = queue.error || runs.error || bin.error;
    if (fault) state.fault = fault;
    else Object.assign(state, { queue, runs: runs.runs, bin: bin.bin });
    const seen = JSON.stringify([state.fault, queue, runs, bin]);
    if (!always && (seen === state.seen || state.root.contains(document.activeElement) && document.activeElement.matches("input, textarea"))) return;
    state.seen = seen;
    draw();
  }

  const button = (text, title, onclick, more = {}) => el("button", { type: "button", text, title, onclick, "aria-label": title, ...more });
  const size = (bytes) => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`;
  const named = encodeURIComponent;
  const badge = (name) => el("span", { class: `badge ${name}`, text: STATES[name] || name });

  function draw() {
    const focused = document.activeElement?.id;
    state.root.replaceChildren(
      ...(state.fault ? [el("p", { class: "fault", role: "alert", text: state.fault })] : []),
      ...(state.queue ? [drawQueue(), drawHistory()] : []),
      ...(state.compared ? [drawCompared()] : []), ...(state.bin.length ? [drawBin()] : []));
    if (focused) document.getElementById(focused)?.focus();
  }

  function drawQueue() {
    const { entries, paused, gpus } = state.queue;
    const places = gpus.map((gpu) => gpu.memory_bytes ? `${gpu.title}, ${size(gpu.memory_bytes)}` : gpu.title).join(" · ");
    const pause = button(paused ? say("Go on") : say("Pause"), paused ? say("Start the next one") : say("Start nothing new; what runs goes on"),
      () => act("POST", "queue/pause", { paused: !paused }), { id: "queue-pause" });
    const body = entries.length
      ? el("ol", { id: "queue-list" }, ...entries.map(drawEntry))
      : el("p", { class: "quiet", text: say("Nothing waits. “Add to queue” below puts what the form says at the end; runs follow one after the other, also without this page.") });
    return el("section", { class: "sheet" }, el("h4", {}, el("span", { text: say("Queue") }), el("span", { class: "quiet", text: places }), el("span", { class: "grow" }), pause),
      ...(paused ? [el("p", { class: "quiet", text: say("Paused: nothing new is started.") })] : []), body);
  }

  function drawEntry(entry, index) {
    const at = `queue/${entry.id}`, waits = entry.state === "waiting", runs = entry.state === "running";
    const buttons = [
      waits && button("↑", say("Earlier"), () => act("POST", `${at}/move`, { place: index }), { disabled: index === 0 }),
      waits && button("↓", say("Later"), () => act("POST", `${at}/move`, { place: index + 2 }), { disabled: index === state.queue.entries.length - 1 }),
      waits && entry.kind === "run" && button(say("Edit"), say("Load it into the form; “Change in queue” then changes it here"), () => edit(entry.id)),
      entry.kind !== "job" && button(say("Duplicate"), say("The same once more, right behind it"), () => act("POST", `${at}/duplicate`)),
      ["stopped", "failed", "killed"].includes(entry.state) && button(say("Once more"), say("It waits again, and goes on from its last saved state"), () => act("POST", `${at}/again`)),
      runs && button(say("Stop"), say("Save and end; the next one begins"), () => act("POST", `${at}/stop`)),
      !runs && button(say("Remove"), say("Take it out of the queue; what it made stays"), () => act("DELETE", at)),
    ].filter(Boolean);
    return el("li", { "data-entry": entry.id }, badge(entry.state), el("b", { text: entry.title }), el("span", { class: "quiet message", text: entry.message || entry.run }), el("span", { class: "buttons" }, ...buttons));
  }

  const edit = (id) => window.atelierForm.edit(id);

  function drawHistory() {
    const words = state.filter.toLowerCase();
    const shown = state.runs.filter((run) => `${run.run} ${STATES[run.state]} ${run.note}`.toLowerCase().includes(words));
    const filter = el("input", { type: "search", id: "history-filter", value: state.filter, placeholder: say("Find in names, states and notes"), "aria-label": say("Find in names, states and notes"),
      oninput: (event) => { state.filter = event.target.value; draw(); } });
    const compare = button(say("Compare"), say("Choose two runs, then see in what they differ"), compareChosen, { disabled: state.chosen.length !== 2, id: "history-compare" });
    const body = shown.length ? el("table", { class: "plain", id: "history-list" }, el("tbody", {}, ...shown.map(drawRun)))
      : el("p", { class: "quiet", text: state.runs.length ? say("No run is like that. Change or clear the words above.") : say("No run yet. “Start training” below begins the first; all of them are kept here, to be compared, resumed and run again.") });
    return el("section", { class: "sheet" }, el("h4", {}, el("span", { text: say("History") }), filter, el("span", { class: "grow" }), compare), body);
  }

  function drawRun(run) {
    const at = `runs/${named(run.run)}`;
    const choice = el("input", { type: "checkbox", checked: state.chosen.includes(run.run), "aria-label": say("Compare {name}", { name: run.run }), onchange: () => {
      state.chosen = state.chosen.includes(run.run) ? state.chosen.filter((name) => name !== run.run) : [...state.chosen, run.run].slice(-2);
      draw();
    } });
    choice.setAttribute("type", "checkbox");
    const note = el("input", { value: run.note, placeholder: say("Note"), "aria-label": say("Note on {name}", { name: run.run }), onchange: (event) => act("PUT", `${at}/note`, { note: event.target.value }) });
    const buttons = [
      ["stopped", "failed", "killed"].includes(run.state) && button(say("Resume"), say("Put it into the queue, to go on from its last saved state"), () => act("POST", `${at}/queue`)),
      button(say("Run again"), say("Put the same settings into the queue as a new run"), () => act("POST", `${at}/again`)),
      button(say("Make a preset"), say("Keep its settings as a preset of yours"), async () => {
        const told = await act("POST", `${at}/preset`);
        if (told.preset) alert(say("Saved as “{name}”. You find it on the tab Presets when the page is loaded again.", { name: told.preset }));
      }),
      run.state !== "running" && button(say("Delete"), say("Move it into the bin, from where it can come back"), () => act("DELETE", at)),
    ].filter(Boolean);
    const loss = run.smoothed_loss === null ? "" : run.smoothed_loss.toFixed(4);
    return el("tr", {}, el("td", {}, choice), el("td", {}, el("b", { text: run.run })), el("td", {}, badge(run.state)),
      el("td", { class: "fixed", text: run.steps ? `${run.step.toLocaleString("en")} / ${run.steps.toLocaleString("en")}` : "" }), el("td", { class: "fixed", text: loss }),
      el("td", { class: "fixed", text: size(run.disk_bytes) }), el("td", { class: "note" }, note), el("td", {}, el("span", { class: "buttons" }, ...buttons)));
  }

  function drawBin() {
    return el("details", { class: "sheet", id: "bin" }, el("summary", { text: say("Bin ({count})", { count: state.bin.length }) }), el("table", { class: "plain" }, el("tbody", {}, ...state.bin.map((run) =>
      el("tr", {}, el("td", { text: run.name.replace(/~[\d-]+$/, "") }), el("td", { class: "fixed", text: size(run.disk_bytes) }), el("td", {}, el("span", { class: "buttons" },
        button(say("Put back"), say("Put it back among the runs"), () => act("POST", `bin/${named(run.name)}/restore`)),
        button(say("Delete for good"), say("Delete its files; this cannot be undone"), () => confirm(say("Delete “{name}” for good?", { name: run.name })) && act("DELETE", `bin/${named(run.name)}`)))))))));
  }

  async function compareChosen() {
    const [first, second] = state.chosen;
    const [told, ...parts] = await Promise.all([ask("GET", `compare?first=${named(first)}&second=${named(second)}`),
      ...["curve", "samples"].flatMap((what) => [first, second].map((name) => ask("GET", `runs/${named(name)}/${what}`)))]);
    state.fault = [told, ...parts].find((part) => part.error)?.error || "";
    state.compared = state.fault ? null : { first, second, differences: told.differences, curves: parts.slice(0, 2), samples: parts.slice(2) };
    draw();
    document.getElementById("compared")?.scrollIntoView({ behavior: "smooth" });
  }

  function drawCompared() {
    const { first, second, differences, curves, samples } = state.compared;
    const text = (value) => value === "" ? "–" : String(value);
    const rows = differences.map((row) => el("tr", {}, el("th", { scope: "row", text: row.label }), el("td", { text: text(row.first) }), el("td", { text: text(row.second) })));
    const settings = rows.length ? el("table", { class: "plain" }, el("thead", {}, el("tr", {}, el("th", {}), el("th", { text: first }), el("th", { text: second }))), el("tbody", {}, ...rows))
      : el("p", { class: "quiet", text: say("Their settings are the same.") });
    const galleries = el("div", { class: "two" }, ...samples.map((part) => el("div", {}, el("h5", { text: part.run }), ...part.samples.map((sample) =>
      el("img", { src: sample.file.slice(1), alt: `${sample.prompt} · ${say("step {number}", { number: sample.step })}`, title: `${sample.prompt} · ${say("step {number}", { number: sample.step })}`, loading: "lazy" })))));
    return el("section", { class: "sheet", id: "compared" }, el("h4", {}, el("span", { text: say("{first} and {second}", { first, second }) }), el("span", { class: "grow" }),
      button("×", say("Close"), () => { state.compared = null; draw(); })), settings, drawCurves(curves), galleries);
  }

  function drawCurves(curves) {
    const [width, height] = [860, 220];
    const values = curves.flatMap((curve) => curve.smoothed_losses.filter((value) => value !== null));
    if (!values.length) return el("p", { class: "quiet", text: say("Neither has a loss curve yet.") });
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const end = Math.max(1, ...curves.map((curve) => curve.steps[curve.steps.length - 1] || 0));
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("class", "compared-curves");
    curves.forEach((curve, index) => {
      const points = curve.steps.map((step, at) => [step, curve.smoothed_losses[at]]).filter(([, value]) => value !== null)
        .map(([step, value]) => `${(step / end * width).toFixed(1)},${(height - 6 - (value - low) / (high - low || 1) * (height - 12)).toFixed(1)}`);
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points.join(" "));
      line.setAttribute("class", `line-${index}`);
      svg.append(line);
    });
    const key = curves.map((curve, index) => el("span", { class: `key line-${index}`, text: curve.run }));
    return el("div", {}, el("h5", {}, el("span", { text: say("Loss (smoothed), from {low} to {high} over {steps} steps", { low: low.toFixed(4), high: high.toFixed(4), steps: end.toLocaleString("en") }) }), ...key), svg);
  }

  function start(element) {
    state.root = element.querySelector("#queue-root");
    look(true);
    setInterval(look, LOOK_MS);
    document.addEventListener("click", (event) => { if (event.target.closest?.("#tab-queue-button, #queue-add")) setTimeout(() => look(true), 300); });
  }
  return { start };
})();
