// The form with which a run is changed: learning rates and prompts while it trains, more epochs when it has ended.
window.atelierRunChange = (() => {
  const { el, say } = window.atelier;
  let ask = null, done = null, drawn = "";

  // What somebody types stays: the form is drawn anew only for another run or another part of it.
  function show(place, content, asking, afterwards) {
    ask = asking;
    done = afterwards;
    const key = `${content.part} ${content.run}`;
    if (key !== drawn) place.replaceChildren(...(content.part === "running" ? running() : content.part === "ended" ? ended() : []));
    drawn = key;
    if (content.part !== "running") return;
    fill(place.querySelector("#rate-factor"), String(content.rate_factor));
    fill(place.querySelector("#new-prompts"), content.prompts);
    place.querySelector("#change-waits").hidden = !content.waits;
  }
  function fill(field, value) {
    if (field.value === (field.dataset.in ?? "") && document.activeElement !== field) field.value = value;
    field.dataset.in = value;
  }

  function running() {
    const factor = el("input", { id: "rate-factor", type: "number", min: "0.001", max: "100", step: "any", value: "" });
    const prompts = el("textarea", { id: "new-prompts", rows: 4, value: "" });
    return [el("details", { className: "sheet change" },
      el("summary", { text: say("Change this run") }),
      row(say("Learning rates ×"), factor, () => change("rate_factor", factor)),
      row(say("Sample prompts, one a line"), prompts, () => change("prompts", prompts)),
      el("p", { id: "change-waits", className: "quiet", hidden: true, text: say("Asked for: it holds from the next step on.") }),
      el("p", { className: "quiet", text: say("Changes hold from the next step on, are kept in the run's folder and in its checkpoints, and a resumed run makes them again at the same step.") }))];
  }
  function row(title, field, apply) {
    return el("div", { className: "change-row" }, el("label", {}, el("span", { text: title }), field),
      el("button", { type: "button", text: say("Apply"), onclick: apply }));
  }
  async function change(what, field) {
    done(await ask("change", { what, value: field.value }));
  }

  function ended() {
    const epochs = el("input", { id: "more-epochs", type: "number", min: "1", step: "1", value: "1", oninput: () => forget() });
    const told = el("p", { id: "longer-told", className: "quiet" });
    const go = el("button", { type: "button", id: "make-longer", hidden: true, text: say("Make it longer and train on"), onclick: async () => {
      go.disabled = true;
      done(await ask("make_longer", { epochs: epochs.value }));
      go.disabled = false;
    } });
    const look = el("button", { type: "button", id: "add-epochs", text: say("What that means"), onclick: async () => {
      const answer = await ask("longer", { epochs: epochs.value });
      told.textContent = answer.told || "";
      go.hidden = !answer.told;
      done(answer);
    } });
    function forget() {
      told.textContent = "";
      go.hidden = true;
    }
    return [el("details", { className: "sheet change" },
      el("summary", { text: say("Add epochs") }),
      el("div", { className: "change-row" }, el("label", {}, el("span", { text: say("Epochs more") }), epochs), look, go), told)];
  }
  return { show };
})();
