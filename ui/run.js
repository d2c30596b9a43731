// The Run tab and the line beside the program's name: asks what is new of the runs and puts it in place. Parts come as
// HTML that the page's program has made and escaped (run_page.py); the log comes as text and is put in as text.
window.atelierRun = (() => {
  const RUNNING_MS = 1000;
  const state = { server: null, key: "", run: "", active: "", seen: {}, log: "", wanted: "" };
  const byId = (id) => document.getElementById(id);
  const { el, say, copyBy } = window.atelier;
  const BUTTONS = [["resume", say("Resume")], ["stop", say("Stop")], ["stop_after_epoch", say("Stop after this epoch")],
    ["pause", say("Pause")], ["save", say("Save now")], ["sample", say("Sample now")]];
  const IDS = { resume: "resume", stop: "stop", stop_after_epoch: "stop-after", pause: "pause", save: "save-now", sample: "sample-now" };

  const ask = async (what, more = {}) => {
    try {
      return JSON.parse(await state.server.runs(JSON.stringify({ key: state.key, ask: what, run: state.run, ...more })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  };

  const look = window.atelier.repeatedly("status-line", lookOnce, () => state.active, RUNNING_MS);
  async function lookOnce() {
    const answer = await ask("look", { active: state.active, seen: state.seen });
    if (answer.error) return;
    Object.assign(state, { run: answer.run, active: answer.active });
    for (const [name, { digest, content }] of Object.entries(answer.parts)) {
      if (show(name, content)) state.seen[name] = digest;
    }
  }

  // False when its place is not drawn yet: it is asked for again then.
  function show(name, content) {
    const place = byId(name === "status" ? "status-line" : name === "runs" || name === "can" ? "run-controls" : `run-${name}`);
    if (!place) return false;
    if (name === "runs") showChoices(content);
    else if (name === "can") showAble(content);
    else if (name === "log") showLog(content);
    else if (name === "change") window.atelierRunChange.show(place, content, ask, done);
    else place.innerHTML = content;
    if (name === "progress") place.onclick = offered;
    return true;
  }

  function controls() {
    const place = byId("run-controls");
    if (!place.children.length) {
      const choice = el("select", { id: "run-choice", ariaLabel: say("Run"), onchange: () => choose(choice.value) });
      const buttons = BUTTONS.map(([what, text]) =>
        el("button", { type: "button", id: IDS[what], class: what === "stop" ? "bad" : "", text, disabled: true, onclick: () => press(what) }));
      place.append(choice, ...buttons);
    }
    return place;
  }
  function showChoices({ choices, shown }) {
    const choice = controls().querySelector("select");
    choice.replaceChildren(...choices.map(([title, path]) => new Option(title, path, false, path === shown)));
    choice.hidden = !choices.length;
  }
  function showAble(can) {
    controls();
    for (const [what] of BUTTONS) byId(IDS[what]).disabled = what === "resume" ? !can.resume : !can.ask;
    byId("pause").textContent = can.continue ? say("Continue") : say("Pause");
    byId("pause").dataset.ask = can.continue ? "continue" : "pause";
    byId("stop-after").textContent = can.go_on ? say("Do not stop after this epoch") : say("Stop after this epoch");
  }
  function choose(path) {
    state.run = path;
    tell("");
    look();
  }
  async function press(what) {
    done(await ask(what === "pause" ? byId("pause").dataset.ask : what));
  }
  function done({ message, error }) {
    tell(message || error || "");
    look();
  }
  // What a failure offers: its change of settings, and the report to copy. The panel is drawn anew when it changes, so
  // the place that holds it listens.
  async function offered(event) {
    const pressed = event.target.closest("button[data-does]");
    if (!pressed) return;
    const { does, failure, changes } = pressed.dataset;
    if (does === "report") await copyReport(pressed);
    else if (confirm(say("These settings change, and training starts again:") + `\n\n${changes}`)) {
      const { message, error } = await ask("fix", { failure });
      tell(message || error || "");
      look();
    }
  }
  async function copyReport(pressed) {
    const { report, error } = await ask("report");
    if (!report) return tell(error || say("There is no report on this run."));
    try {
      await navigator.clipboard.writeText(report);
      pressed.textContent = say("Copied");
    } catch { // a page without a certificate may not write there: the text can be copied by hand
      byId("run-message").replaceChildren(el("textarea", { readOnly: true, rows: 12, ariaLabel: say("The report"), text: report }));
      byId("run-message").firstChild.select();
    }
  }
  function tell(text, isGood = false) {
    const how = isGood ? { class: "done", role: "status" } : { class: "fault", role: "alert" };
    byId("run-message").replaceChildren(...(text ? [el("p", { ...how, text })] : []));
  }

  // The log: its end stays in sight unless the user scrolled up; a search shows only the lines that hold the words.
  function showLog(text) {
    state.log = text;
    const place = byId("run-log");
    place.hidden = !text;
    if (!place.children.length) {
      const search = el("input", { type: "search", placeholder: say("Search the log"), ariaLabel: say("Search the log"), oninput: () => {
        state.wanted = search.value.trim().toLowerCase();
        drawLog();
      } });
      place.append(el("h4", {}, el("span", { text: say("Log") }), search), el("pre", { tabIndex: 0 }));
    }
    drawLog();
  }
  function drawLog() {
    const pre = byId("run-log").querySelector("pre");
    const atEnd = pre.scrollTop + pre.clientHeight > pre.scrollHeight - 30;
    const lines = state.log.split("\n");
    const found = state.wanted ? lines.filter((line) => line.toLowerCase().includes(state.wanted)) : lines;
    pre.textContent = found.length ? found.join("\n") : say("No line holds these words.");
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }

  // Buttons in what the page's program has drawn: copy a text, star a picture, compare the pictures of a row.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("#run-live :is([data-copy], [data-star], [data-compare], [data-draw], [data-go-on])");
    if (!button) return;
    const { copy, star, draw, goOn } = button.dataset;
    if (draw !== undefined) return drawAgain(draw);
    if (goOn !== undefined) return window.atelier.fillField("adapter.start_from", goOn);
    if (star !== undefined) return done(await ask("star", { path: star }));
    if (copy === undefined) return window.atelierCompare.open(button.closest("tr"));
    copyBy(button, copy);
  });
  async function drawAgain(checkpoint) {
    const { message, error } = await ask("draw", { checkpoint });
    tell(message || error || say("In the queue: the pictures appear below the checkpoints as soon as the device is free."), !(message || error));
    look();
  }
  function start(element, server) {
    Object.assign(state, { server, key: element.querySelector("#status-line").dataset.key });
    document.addEventListener("visibilitychange", () => document.hidden || look());
    look();
  }
  return { start, look };
})();
