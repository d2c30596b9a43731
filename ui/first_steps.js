// The walk of the first visit, in four steps: base model, pictures, recipe, start. It stands above the tabs, fills the
// form's fields (first_steps.py), and tells what was found. Names are only ever put in as text (textContent).
window.atelierFirstSteps = (() => {
  const { el, say } = window.atelier;
  const TYPING_MS = 400;
  const STEPS = [say("Base model"), say("Pictures"), say("Recipe"), say("Start")];
  const state = {
    root: null, key: "", server: null, at: -1, model: "", folder: "", recipe: "", demo: {},
    found: { model: null, folder: null }, recipes: null, takes: {}, told: null,
  };
  const asked = { model: 0, folder: 0, takes: 0 }; // an answer to an older question is dropped

  async function ask(what, more = {}) {
    try {
      return JSON.parse(await state.server.first_steps(JSON.stringify({ key: state.key, ask: what, ...more })));
    } catch {
      return { error: say("The page's program did not answer. Look into its terminal, then try again.") };
    }
  }

  async function start(element, server) {
    const root = element.querySelector("#first-steps");
    Object.assign(state, { root, server, key: root.dataset.key });
    const beginning = await ask("beginning");
    if (beginning.seen === false) open(beginning);
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#first-steps-open")) state.at < 0 ? open(null, true) : leave();
  });

  async function open(known = null, isAsked = false) {
    const beginning = known || (await ask("beginning"));
    const { model = "", folder = "", demo = {} } = beginning;
    Object.assign(state, { at: 0, model, folder, demo, recipe: "", recipes: null, takes: {}, found: { model: null, folder: null } });
    draw();
    if (isAsked) focusHead();
    if (model) look("model");
    if (folder) look("folder");
  }
  function leave() {
    state.at = -1;
    state.root.replaceChildren();
    ask("seen");
    document.getElementById("first-steps-open")?.focus();
  }
  function go(at) {
    state.at = Math.max(0, Math.min(STEPS.length - 1, at));
    draw();
    focusHead();
  }
  const focusHead = () => {
    state.root.querySelector("h3")?.focus();
    state.root.scrollIntoView({ block: "nearest" });
  };

  // Into the form; the marks that come back tell what the whole of it says then.
  async function fill({ recipe, ...paths }) {
    state.told = null;
    const named = Object.entries(paths).map(([name, value]) => [name === "model" ? "model.base" : "data.folder", value]);
    if (!recipe) {
      window.atelierFields.show("form", Object.fromEntries(named));
      return window.atelierForm.look();
    }
    const { message } = await window.atelierForm.act("recipe", { recipe, ...paths });
    if (message) document.getElementById("start-message").innerHTML = message;
    else document.dispatchEvent(new CustomEvent("atelier-recipe"));
  }
  document.addEventListener("atelier-marks", (event) => {
    state.told = event.detail;
    if (state.at === 3) drawBody();
  });

  async function look(name) {
    const number = ++asked[name];
    state.found[name] = state[name] ? { looking: true } : null;
    drawFound(name);
    if (!state[name]) return;
    const answer = await ask(name === "model" ? "model" : "pictures", { [name]: state[name] });
    if (number !== asked[name]) return;
    state.found[name] = answer.error ? { found: [], problems: [answer.error] } : answer;
    state.takes = {};
    drawFound(name);
    drawNav();
  }
  let pause = 0;
  function chose(name, value, isTyped = true) {
    state[name] = value.trim();
    clearTimeout(pause);
    pause = setTimeout(() => {
      fill({ [name]: state[name] });
      look(name);
    }, isTyped ? TYPING_MS : 0);
  }

  const good = (name) => Boolean(state.found[name] && !state.found[name].looking && !state.found[name].problems.length &&
    state.found[name].found.length);
  const done = () => [good("model"), good("folder"), Boolean(state.recipe), false];
  const words = (text, kind = "") => el("p", { class: kind, text });

  function draw() {
    if (state.at < 0) return;
    const close = el("button", { type: "button", class: "link", text: say("Not now"), onclick: leave });
    const head = el("div", { class: "steps-head" }, el("nav", { ariaLabel: say("First steps") }), close);
    state.root.replaceChildren(el("section", { class: "sheet", ariaLabel: say("First steps") }, head, el("div", { class: "steps-body" })));
    drawNav();
    drawBody();
  }
  function drawNav() {
    const isDone = done();
    state.root.querySelector("nav")?.replaceChildren(...STEPS.map((title, index) => el("button", {
      type: "button", class: index === state.at ? "present" : isDone[index] ? "done" : "", "aria-current": index === state.at ? "step" : null,
      onclick: () => go(index),
    }, el("i", { text: isDone[index] ? "✓" : String(index + 1) }), el("span", { text: title }))));
  }
  function drawBody() {
    const body = state.root.querySelector(".steps-body");
    if (!body) return;
    const hadFocus = body.contains(document.activeElement) && document.activeElement.id;
    body.replaceChildren(...[drawModel, drawPictures, drawRecipe, drawStart][state.at]());
    if (hadFocus) document.getElementById(hadFocus)?.focus();
  }
  const title = (text) => el("h3", { tabIndex: -1, text });
  function drawButtons(...last) {
    const back = state.at > 0 ? el("button", { type: "button", text: say("Back"), onclick: () => go(state.at - 1) }) : null;
    const next = el("button", { type: "button", class: "primary", id: "step-next", text: say("Next"), onclick: () => go(state.at + 1) });
    return el("div", { class: "steps-buttons" }, back, ...(last.length ? last : [next]));
  }

  // An entry of a path with its button; its id and class are what the chooser goes by.
  function entry(name, id, kind, label) {
    const input = el("input", { type: "text", id: `step-entry-${name}`, value: state[name], ariaLabel: label, placeholder: label,
      oninput: (event) => chose(name, input.value, event.isTrusted), onkeydown: (event) => { if (event.key === "Enter") go(state.at + 1); } });
    input.setAttribute("type", "text");
    const place = el("div", { id, class: `steps-entry ${kind}` }, input);
    place.append(el("button", { type: "button", text: say("Choose…"), onclick: () => window.atelierChooser.open(place) }));
    return place;
  }
  function drawFound(name) {
    const place = document.getElementById(`step-found-${name}`);
    if (!place) return;
    const found = state.found[name];
    place.replaceChildren();
    if (!found) return;
    if (found.looking) return place.append(words(say("Looking…"), "quiet"));
    found.problems.forEach((text) => place.append(words(text, "steps-problem")));
    found.found.forEach((text) => place.append(words(text, "steps-found")));
    (found.notes || []).forEach((text) => place.append(words(text, "quiet")));
    const take = (text, onclick) => place.append(el("button", { type: "button", text, onclick }));
    if (found.deeper) take(say("Use that folder"), () => { chose("folder", found.deeper, false); drawBody(); });
    if (found.arrange) take(say("Arrange it on the tab Data set"), () => document.getElementById("tab-data-button")?.click());
  }
  const report = (name) => {
    const place = el("div", { id: `step-found-${name}`, class: "steps-report", role: "status" });
    queueMicrotask(() => drawFound(name));
    return place;
  };
  const demoButton = (name, text) => state.demo[name]
    ? el("button", { type: "button", class: "link", text, onclick: () => { chose(name, state.demo[name], false); drawBody(); } }) : null;

  function drawModel() {
    return [
      title(say("Which model shall learn something new?")),
      words(say("A base model is the big file that draws pictures, such as sd_xl_base_1.0.safetensors (about 7 GB). Training leaves it as it is and writes a small file beside it, the LoRA, which teaches it your subject.")),
      entry("model", "step-model-base", "path-file", say("An SDXL model: a .safetensors file or its folder")),
      report("model"), demoButton("model", say("I have none yet: use the small built-in one, to see how it goes")), drawButtons(),
    ];
  }
  function drawPictures() {
    return [
      title(say("What shall it learn?")),
      words(say("Put your pictures into a folder whose name starts with a number: 10_mycat means that each picture is shown ten times a round. Choose the folder that this one lies in. A text file of the same name beside a picture says what is in it, its caption.")),
      entry("folder", "step-data-folder", "path-folder", say("The folder that holds 10_name")),
      report("folder"), demoButton("folder", say("I have none yet: use the built-in ones")), drawButtons(),
    ];
  }

  function drawRecipe() {
    const heading = title(say("How shall it learn?"));
    const about = words(say("A recipe sets everything else. Nothing of it is final: every setting can be seen and changed on the tab Training."));
    if (!state.recipes) {
      ask("recipes").then((answer) => {
        state.recipes = answer;
        if (state.at === 2) drawBody();
      });
      return [heading, about, words(say("Looking…"), "quiet"), drawButtons()];
    }
    const { card = "", groups = [], error = "" } = state.recipes;
    const drawn = groups.map((group) => el("fieldset", {}, el("legend", { text: group.title }), ...group.recipes.map(drawChoice)));
    queueMicrotask(lookAtTakes);
    return [heading, about, words(error || card, "quiet"), el("div", { class: "steps-recipes" }, ...drawn), drawButtons()];
  }
  function drawChoice({ recipe, title: name, about }, index) {
    const choice = el("input", { name: "step-recipe", id: `step-recipe-${name}-${index}`, checked: state.recipe === recipe, onchange: () => {
      state.recipe = recipe;
      drawNav();
      fill({ recipe, model: state.model, folder: state.folder });
    } });
    choice.setAttribute("type", "radio");
    const takes = el("small", {});
    takes.dataset.takes = recipe;
    return el("label", {}, choice, el("span", {}, el("b", { text: name }), el("span", { text: about }), takes));
  }
  // One after the other, so that the first stands there at once; each is the forecast that the bar below would give.
  async function lookAtTakes() {
    const number = ++asked.takes;
    for (const place of state.root.querySelectorAll("[data-takes]")) {
      const recipe = place.dataset.takes;
      state.takes[recipe] ||= await ask("takes", { recipe, model: state.model, folder: state.folder });
      if (number !== asked.takes || state.at !== 2) return;
      const { steps = "", takes = "", fits = null, error = "" } = state.takes[recipe];
      place.textContent = error || [steps, takes].filter(Boolean).join(", ");
      place.classList.toggle("steps-problem", fits === false || Boolean(error));
    }
  }

  function drawStart() {
    const heading = title(say("Ready?"));
    if (!state.told) return [heading, words(say("Looking…"), "quiet"), drawButtons(startButton(true))];
    const { sentence, blocking } = state.told;
    if (!blocking.length && sentence) {
      const after = say("Progress, sample pictures and the finished file are on the tab Run. The page may be closed meanwhile: training goes on.");
      return [heading, words(sentence, "steps-sentence"), words(after, "quiet"), drawButtons(startButton(false))];
    }
    const stepOf = { "model.base": 0, "data.folder": 1 };
    const rows = blocking.map(({ field, label, message }) => el("li", {},
      field ? el("button", { type: "button", class: "link", text: label, onclick: () => field in stepOf ? go(stepOf[field]) : window.atelier.goToField(field) }) : el("b", { text: label }),
      el("span", { text: ` ${message}` })));
    return [heading, words(say("This is still in the way:")), el("ul", { class: "notes problem" }, ...rows), drawButtons(startButton(true))];
  }
  function startButton(disabled) {
    return el("button", { type: "button", class: "primary", id: "step-start", text: say("Start training"), disabled, onclick: () => {
      leave();
      document.getElementById("start")?.click();
    } });
  }

  return { start };
})();
